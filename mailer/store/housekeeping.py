"""The file itself: checkpoints, room on the disk, old rows, and who may run the senders."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Final

from mailer.errors import StoreInUse
from mailer.store.connection import Database

RESERVE_BYTES: Final = 2 * 1024 * 1024
WAL_LIMIT_BYTES: Final = 64 * 1024 * 1024
CHECKPOINT_FROM_BYTES: Final = 1024 * 1024
ANY_PLACE: Final = 2**62


class Housekeeping:
    """What the supervisor's duties do to the file."""

    def __init__(self, db: Database) -> None:
        self._db = db

    @property
    def wal_bytes(self) -> int:
        return _size(self._db.path.with_name(self._db.path.name + "-wal"))

    def checkpoint(self) -> None:
        """Copy the WAL into the database, if that is worth it.

        A WAL that has grown past its limit, or is larger than what room is left on the disk, is
        cut back as soon as no reader needs it.
        """
        wal_bytes = self.wal_bytes
        if wal_bytes < CHECKPOINT_FROM_BYTES:
            return
        too_large = wal_bytes > min(WAL_LIMIT_BYTES, self.free_bytes())
        mode = "TRUNCATE" if too_large else "PASSIVE"
        self._db.checkpoint(mode)

    def optimize(self) -> None:
        """Let SQLite refresh the statistics its query planner uses."""
        with self._db.write():
            self._db.run("PRAGMA optimize")

    @property
    def reserve(self) -> Path:
        """A file that only takes up room, to be given up when the disk is full.

        With it the outcomes of mail already handed over can still be recorded.
        """
        return self._db.path.with_name(self._db.path.name + "-reserve")

    def has_reserve(self) -> bool:
        """Whether there is room to record what is handed over."""
        return _size(self.reserve) == RESERVE_BYTES

    def give_up_reserve(self) -> bool:
        """Whether that made room."""
        try:
            self.reserve.unlink()
        except OSError:
            return False  # there is none, or the disk has become read-only
        return True

    def keep_reserve(self) -> None:
        """Make the file anew when there is room for it and as much again."""
        if self.has_reserve() or self.nearly_full():
            return
        try:
            with open(self.reserve, "wb", opener=_private) as file:
                os.posix_fallocate(file.fileno(), 0, RESERVE_BYTES)
        except OSError:
            self.give_up_reserve()  # a part of it is none

    def nearly_full(self) -> bool:
        """Whether there is too little room for the reserve and as much again."""
        return self.free_bytes() < 2 * RESERVE_BYTES

    def free_bytes(self) -> int:
        """Room left on the database's disk for a user who is not root."""
        disk = os.statvfs(self._db.path.parent)
        return disk.f_bavail * disk.f_frsize

    def forget_events(self, before_ms: int, step: int, *, up_to: int | None = None) -> int:
        """Remove old events that belong to no mail, up to a place in the log; how many went."""
        return self._db.run(
            "DELETE FROM events WHERE id IN (SELECT id FROM events WHERE id <"
            " (SELECT coalesce(min(id), 0) FROM events WHERE at_ms >= ?) AND id <= ?"
            " AND mail IS NULL LIMIT ?)",
            (before_ms, ANY_PLACE if up_to is None else up_to, step),
        )


class SupervisorLock:
    """Held for a supervisor's whole life: no two work on the same database."""

    def __init__(self, database: Path) -> None:
        """Raises StoreInUse, naming the process that holds it."""
        database = database.resolve()
        path = database.with_name(database.name + "-supervisor")
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._fd, 20, 0).decode().strip() or "unknown"
            os.close(self._fd)
            raise StoreInUse(
                f"another supervisor (pid {holder}) works on {database}; stop it first"
            ) from None
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        os.close(self._fd)


def supervisor_of(database: Path) -> int | None:
    """The process that holds a database's SupervisorLock; found without touching the lock."""
    path = database.with_name(database.name + "-supervisor")
    try:
        pid, inode = path.read_text().strip(), path.stat().st_ino
        locks = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return None
    # As `37: FLOCK  ADVISORY  WRITE 19122 fe:00:10109401 0 EOF` (proc_locks(5)).
    held = (line.split() for line in locks if " FLOCK " in line)
    return int(pid) if any(f[4] == pid and f[5].endswith(f":{inode}") for f in held) else None


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
