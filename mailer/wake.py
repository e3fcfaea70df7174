"""Waking senders: a datagram that says "look again", sent when something may be due.

It carries nothing, so losing one costs a polling interval and nothing else. Each sender listens
on a Unix socket of its own in the directory `<database>-wake`.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path


def wake_directory(database: Path) -> Path:
    """Where senders of a database listen."""
    database = database.resolve()
    return database.with_name(database.name + "-wake")


class Bell:
    """The end that wakes."""

    def __init__(self, database: Path) -> None:
        self._directory = wake_directory(database)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)

    def ring(self) -> None:
        """Wake every sender that listens; never waits, never raises."""
        with contextlib.suppress(OSError), _reachable(self._directory) as directory:
            for listener in Path(directory).iterdir():
                with contextlib.suppress(OSError):
                    self._socket.sendto(b"", str(listener))

    def close(self) -> None:
        self._socket.close()


class Ear:
    """The end that sleeps: one sender's socket."""

    def __init__(self, database: Path, name: str) -> None:
        directory = wake_directory(database)
        directory.mkdir(mode=0o700, exist_ok=True)
        self._path = directory / name
        self._path.unlink(missing_ok=True)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        with _reachable(directory) as short:
            self.socket.bind(f"{short}/{name}")

    def drain(self) -> None:
        """Take what has come, so that the next wait sleeps."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self.socket.recv(16)

    def close(self) -> None:
        self.socket.close()
        self._path.unlink(missing_ok=True)


@contextlib.contextmanager
def _reachable(directory: Path) -> Iterator[str]:
    """A short name for a directory: socket addresses hold 107 bytes, paths may be longer."""
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)
