"""Back-ups of the one file of state, taken while it is written to, and putting one back.

A back-up is one instant of the database, whole and checked before it has its name. What is put
back is *held*: mail may have been sent since the back-up was taken, so nothing is sent from it
until someone who has looked says so (`store.hold`).
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mailer.errors import StoreInUse, StoreUnavailable
from mailer.store.connection import (
    PARTS,
    Database,
    lock_path,
    remembered_commits,
    sqlite3,
    translated,
)
from mailer.store.housekeeping import SupervisorLock
from mailer.store.place import check_place
from mailer.store.verify import verify

COUNTED: Final = ("batches", "messages", "mails", "attempts", "events", "suppressions", "topics")

_HOLD: Final = """
UPDATE meta SET commits = max(commits, ?) + 1, held_since_ms = ?,
    held_after_event = (SELECT coalesce(max(id), 0) FROM events)
"""


@dataclass(frozen=True, slots=True)
class BackUp:
    """What a back-up holds."""

    path: Path
    size_bytes: int
    rows: dict[str, int]


def back_up(database: Path, target: Path, now_ms: int) -> BackUp:
    """Copy the database as it is at one instant to the new file `target`; writers go on.

    Raises StoreUnavailable or StoreDamaged, leaving no file.
    """
    if target.exists():
        raise StoreUnavailable(f"{target} exists: name another file")
    with _appearing(target) as unfinished:
        with _copied(database, unfinished) as copy:
            copy.execute("UPDATE meta SET backed_up_at_ms = ?", (now_ms,))
        verify(unfinished, whole=True)
        rows = _rows(unfinished)
        size_bytes = unfinished.stat().st_size
    return BackUp(target, size_bytes, rows)


def note_back_up(database: Path, now_ms: int) -> None:
    """Let `/metrics` tell that a good back-up was begun then. Raises StoreUnavailable."""
    with closing(Database(database)) as db, db.write():
        db.run("UPDATE meta SET last_backup_at_ms = ?", (now_ms,))


def restore(source: Path, database: Path, now_ms: int) -> Path | None:
    """Put a back-up in the database's place, held; where the one that was there lies now.

    Raises StoreInUse while any process works on the database, and what `back_up` raises; the
    database is untouched then.
    """
    database = database.resolve()
    check_place(database)
    verify(source, whole=True)
    supervisor = SupervisorLock(database)
    try:
        with _locked(database):
            if users := _users(database):
                pids = ", ".join(map(str, users))
                raise StoreInUse(f"{database} is in use (pid {pids}); stop mailer first")
            unfinished = database.with_name(database.name + "-restoring")
            with _appearing(unfinished) as file, _copied(source, file) as copy:
                copy.execute(_HOLD, (remembered_commits(database), now_ms))
            replaced = _put_aside(database, now_ms)
            unfinished.rename(database)
            _sync(database.parent)
            return replaced
    finally:
        supervisor.release()


@contextmanager
def _copied(source: Path, target: Path) -> Iterator[sqlite3.Connection]:
    """A copy of one instant, open in a transaction; closed, it is a file by itself."""
    with (
        translated(source),
        closing(sqlite3.connect(f"{source.resolve().as_uri()}?mode=ro", uri=True)) as original,
        closing(sqlite3.connect(target, isolation_level=None)) as copy,
    ):
        # In one step: between two, any commit would make SQLite begin anew
        # (https://www.sqlite.org/backup.html).
        original.backup(copy, pages=-1)
        copy.execute("BEGIN IMMEDIATE")
        yield copy
        copy.execute("COMMIT")
        copy.execute("PRAGMA wal_checkpoint(TRUNCATE)")


@contextmanager
def _appearing(target: Path) -> Iterator[Path]:
    """A file that gets its name when all of it is on disk, and is none when that fails."""
    unfinished = target.with_name(f".{target.name}.unfinished")
    try:
        unfinished.unlink(missing_ok=True)
        os.close(os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        yield unfinished
        _sync(unfinished)
        unfinished.rename(target)
        _sync(target.parent)
    except OSError as error:
        raise StoreUnavailable(f"{target} can't be written: {error.strerror}") from error
    finally:
        for part in PARTS:
            unfinished.with_name(unfinished.name + part).unlink(missing_ok=True)


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _rows(database: Path) -> dict[str, int]:
    uri = f"{database.resolve().as_uri()}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True)) as connection:
        return {
            table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for table in COUNTED
        }


@contextmanager
def _locked(database: Path) -> Iterator[None]:
    """The write lock, of a database that need not be fit to be opened."""
    fd = os.open(lock_path(database), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise StoreInUse(f"{database} is being written to; stop mailer first") from None
    finally:
        os.close(fd)


def _users(database: Path) -> list[int]:
    """Processes that have the database open, as far as we may look."""
    found = set()
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            open_file = link.readlink()
        except OSError:
            continue  # gone, or somebody else's
        if open_file == database:
            found.add(int(link.parts[2]))
    return sorted(found - {os.getpid()})


def _put_aside(database: Path, now_ms: int) -> Path | None:
    if not database.exists():
        return None
    aside = database.with_name(f"{database.name}.replaced-{now_ms}")
    for part in PARTS:
        place = database.with_name(database.name + part)
        if place.exists():
            place.rename(aside.with_name(aside.name + part))
    return aside
