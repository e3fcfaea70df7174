"""How far a sender has come with its slots, in memory that outlives its process.

Mail that it was leased and had not begun with when it was killed is known not to have been handed
over. Not synced, so that it costs nothing: it has to outlive the process, not the machine. After a
boot it proves nothing, and nobody asks it (`senders.adopt_boot`).
"""

from __future__ import annotations

import mmap
import os
import threading
from pathlib import Path
from typing import Final

_BYTES: Final = 8


class Begun:
    """The latest slot that one sender has begun with."""

    def __init__(self, database: Path, sender: int) -> None:
        """Raises OSError when there is no room for it."""
        path = begun_path(database, sender)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            # Written, not only made that long: on a disk that is full later, memory without a
            # block behind it would end the process.
            os.pwrite(fd, bytes(_BYTES), 0)
            self._latest = memoryview(mmap.mmap(fd, _BYTES)).cast("q")
        finally:
            os.close(fd)
        self._lock = threading.Lock()

    def note(self, at_us: int) -> None:
        """Before the transport is called in the slot of that instant; from any thread."""
        with self._lock:
            self._latest[0] = max(self._latest[0], at_us)


def begun_path(database: Path, sender: int) -> Path:
    """Where a sender notes it; to be removed when there is nothing left to prove."""
    database = database.resolve()
    return database.with_name(f"{database.name}-sender-{sender}")


def last_begun_us(database: Path, sender: int, died_us: int) -> int:
    """The latest slot a dead sender can have begun with: what it noted, else when it died."""
    try:
        noted = begun_path(database, sender).read_bytes()
    except OSError:
        return died_us
    if len(noted) != _BYTES:
        return died_us
    return min(died_us, memoryview(noted).cast("q")[0])
