"""One SQLite file, opened, locked and committed in the one right way.

Every write transaction runs under an exclusive `flock` on `<database>-lock`; so does the only
checkpoint. Commits and checkpoints thus never overlap, whatever the library (SQLite's WAL-reset
bug, 3.7.0 to 3.51.2, loses committed data when they do), and waiting writers are served in turn.
The lock file also remembers the number of the last commit: a database that knows fewer has lost
its `-wal`, or is an older copy, and nothing is sent from it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import sqlite_utils
from sqlite_utils import Migrations

from mailer.errors import StoreDamaged, StoreError, StoreUnavailable
from mailer.metrics import LOCK_WAIT
from mailer.privileges import refuse_foreign
from mailer.store.library import sqlite3 as sqlite3
from mailer.store.measures import Measures

BUSY_TIMEOUT_MS: Final = 5_000
"""For foreign tools, and for whoever recovers the WAL after a crash; our writers wait for a lock
of our own, since SQLite's way of waiting is not fair."""
LOCK_RETRY_S: Final = 0.001

PARTS: Final = ("", "-wal", "-shm", "-journal")
"""A database's files, by what their names end in."""

# The lock file's two lines: the number of the last commit, and who took the lock last.
_HOLDER_OFFSET: Final = 21

Row = tuple[Any, ...]

# Everything a connection is told, in one place. Checkpoints are the supervisor's, so no
# connection may start one by itself; FULL syncs each commit, which is what a 200 promises.
PRAGMAS: Final = (
    f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}",
    "PRAGMA synchronous = FULL",
    "PRAGMA wal_autocheckpoint = 0",
    "PRAGMA cache_size = -16000",
    "PRAGMA temp_store = MEMORY",
)

# What may be asked outside a write transaction. `PRAGMA query_only` would keep everything else
# out too, but SQLite compiles all statements anew after each change of it: 0.4 ms a transaction.
_READS: Final = ("SELECT", "PRAGMA")


class Database:
    """A connection of one thread. Reads are autocommitted; writes happen inside `write()` only."""

    def __init__(self, path: Path, lock_timeout_s: float | None = None) -> None:
        """With `lock_timeout_s`, waiting longer for the write lock raises StoreUnavailable.

        Others wait in turn for as long as it takes; a process that has to end a holder which is
        stuck must not.
        """
        self.path = path.resolve()
        self._lock_timeout_s = lock_timeout_s
        refuse_foreign(self.path)
        self._lock_fd = _open_private(lock_path(self.path), os.O_RDWR)
        _make_private(self.path)
        self._writing = False
        self.measures = Measures()
        self._open: sqlite3.Connection | None = None
        _ = self._connection

    @property
    def _connection(self) -> sqlite3.Connection:
        """The connection; a new one when the last was given up after an I/O error."""
        if self._open is None:
            with translated(self.path):
                self._open = sqlite3.connect(
                    self.path, isolation_level=None, check_same_thread=False
                )
                for pragma in PRAGMAS:
                    self._open.execute(pragma)
        return self._open

    def close(self) -> None:
        """Close under the lock, since the last connection to close runs a checkpoint."""
        if self._lock_fd < 0:
            return
        with self.locked():
            self._disconnect()
        os.close(self._lock_fd)
        self._lock_fd = -1

    def _disconnect(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the write lock, without a transaction: for checkpoints and closing."""
        self._lock()
        try:
            yield
        finally:
            fcntl.flock(self._lock_fd, fcntl.LOCK_UN)

    def _lock(self) -> None:
        if not self._lock_now():
            began_ns = time.monotonic_ns()
            self._await_lock()
            self.measures.observe(LOCK_WAIT, (), (time.monotonic_ns() - began_ns) // 1_000)
        self._remember(b"%20d\n" % os.getpid(), _HOLDER_OFFSET)

    def _await_lock(self) -> None:
        if self._lock_timeout_s is None:
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX)
            return
        deadline = time.monotonic() + self._lock_timeout_s
        while not self._lock_now():
            if time.monotonic() > deadline:
                raise StoreUnavailable(
                    f"process {self.lock_holder()} has held the write lock of {self.path}"
                    f" for more than {self._lock_timeout_s} s"
                )
            time.sleep(LOCK_RETRY_S)

    def _lock_now(self) -> bool:
        try:
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def lock_holder(self) -> int:
        """The process that took the write lock last."""
        return int(os.pread(self._lock_fd, 20, _HOLDER_OFFSET) or 0)

    @contextmanager
    def write(self) -> Iterator[None]:
        """One durable transaction: on disk when the block ends, undone if it raises.

        Raises StoreUnavailable when the database can't be written now; nothing is stored then.
        """
        if self._writing:
            raise RuntimeError("write() does not nest; use savepoint()")
        with self.locked(), translated(self.path):
            self._writing = True
            measured = self.measures.mark()
            try:
                self._begin()
                yield
                self.measures.write(self)
                self._commit()
            except BaseException as error:
                self.measures.back_to(measured)
                self._undo(error)
                raise
            finally:
                self._writing = False

    def _begin(self) -> None:
        """BEGIN IMMEDIATE; a foreign tool that holds SQLite's own lock is waited for."""
        self._connection.execute("BEGIN IMMEDIATE")

    def _commit(self) -> None:
        (commits,) = self._connection.execute(
            "UPDATE meta SET commits = commits + 1 RETURNING commits"
        ).fetchone()
        self._connection.execute("COMMIT")
        # After the commit, and not synced: on disk it never runs ahead of the database.
        self._remember(b"%020d\n" % commits, 0)

    def _remember(self, line: bytes, offset: int) -> None:
        """Without room for it, the lock and the commit still hold."""
        with contextlib.suppress(OSError):
            os.pwrite(self._lock_fd, line, offset)

    def _undo(self, error: BaseException) -> None:
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error:
            error = StoreUnavailable("the transaction could not be undone")
        # After an I/O error the page cache can't be trusted to hold what SQLite believes it
        # wrote: start again with a new connection, as its documentation of IOERR advises.
        if isinstance(error, (sqlite3.OperationalError, StoreUnavailable)):
            self._disconnect()

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """A part of the running transaction that can fail by itself."""
        self._connection.execute("SAVEPOINT part")
        measured = self.measures.mark()
        try:
            yield
        except BaseException:
            self.measures.back_to(measured)
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK TO part")
                self._connection.execute("RELEASE part")
            raise
        self._connection.execute("RELEASE part")

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Reads within see the database as it is at the first of them."""
        with translated(self.path):
            connection = self._connection
            connection.execute("BEGIN")
            try:
                yield
            finally:
                connection.execute("ROLLBACK")

    def checkpoint(self, mode: str) -> None:
        """Copy the WAL into the database, under the lock that commits take too.

        Waits for no reader, since all writers would wait with it.
        """
        with self.locked():
            self.run("PRAGMA busy_timeout = 0")
            try:
                self.one(f"PRAGMA wal_checkpoint({mode})")
            finally:
                self.run(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")

    def version(self) -> int:
        """Changes with every commit of another connection (PRAGMA data_version)."""
        (version,) = self.one("PRAGMA data_version") or (0,)
        return int(version)

    def migrate(self, migrations: Migrations) -> list[str]:
        """Apply what is missing, each migration in a transaction of its own; their names."""
        with self.locked(), translated(self.path):
            connection = self._connection
            connection.execute("PRAGMA journal_mode = WAL")
            database = sqlite_utils.Database(connection)
            names = [migration.name for migration in migrations.pending(database)]
            migrations.apply(database)
            return names

    def set_oldest_program(self, migrations: int) -> None:
        """Say in the file how many migrations a program must know to work on it."""
        if self.one("PRAGMA user_version") == (migrations,):
            return
        with self.locked(), translated(self.path):
            self._connection.execute(f"PRAGMA user_version = {migrations}")

    def run(self, sql: str, parameters: Sequence[Any] | dict[str, Any] = ()) -> int:
        """Execute one statement; the number of rows it changed."""
        with translated(self.path):
            return self._execute(sql, parameters).rowcount

    def insert(self, sql: str, parameters: Sequence[Any] | dict[str, Any] = ()) -> int:
        """Execute one INSERT; the new row's id."""
        with translated(self.path):
            return self._execute(sql, parameters).lastrowid or 0

    def many(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        with translated(self.path):
            self._allowing(sql).executemany(sql, rows)

    def all(self, sql: str, parameters: Sequence[Any] | dict[str, Any] = ()) -> list[Row]:
        with translated(self.path):
            return self._execute(sql, parameters).fetchall()

    def one(self, sql: str, parameters: Sequence[Any] | dict[str, Any] = ()) -> Row | None:
        with translated(self.path):
            row: Row | None = self._execute(sql, parameters).fetchone()
            return row

    def _execute(self, sql: str, parameters: Sequence[Any] | dict[str, Any]) -> sqlite3.Cursor:
        return self._allowing(sql).execute(sql, parameters)

    def _allowing(self, sql: str) -> sqlite3.Connection:
        """The connection; RuntimeError for what changes anything outside `write()`."""
        if not self._writing and not sql.lstrip().startswith(_READS):
            raise RuntimeError("what changes anything is done within write()")
        return self._connection


def lock_path(database: Path) -> Path:
    """The file whose lock orders writers, beside the database."""
    return database.with_name(database.name + "-lock")


def remembered_commits(database: Path) -> int:
    """The number of the last commit any process made, as the lock file remembers it."""
    try:
        # NULs: the lock was taken, but nothing has been committed yet.
        return int(lock_path(database).read_bytes()[:_HOLDER_OFFSET].strip(b"\0\n") or 0)
    except FileNotFoundError:
        return 0
    except ValueError:
        raise StoreDamaged(
            f"{lock_path(database)} does not hold a commit number. It was written by something"
            " else; remove it if you are sure that the database is the newest copy."
        ) from None


def _make_private(database: Path) -> None:
    """A database that others may read is closed to them, and what lies beside it: it holds mail."""
    for suffix in ("", "-wal", "-shm", "-lock"):
        part = database.with_name(database.name + suffix)
        with contextlib.suppress(FileNotFoundError, PermissionError):  # not ours: not ours to close
            if part.stat().st_mode & 0o077:
                part.chmod(0o600)


def _open_private(path: Path, flags: int) -> int:
    try:
        return os.open(path, flags | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreUnavailable(f"{path}: {error.strerror}") from error


_DAMAGED: Final = frozenset({11, 26})  # SQLITE_CORRUPT, SQLITE_NOTADB


def _code(error: sqlite3.Error) -> int:
    """The primary result code (https://www.sqlite.org/rescode.html)."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """No SQLite error leaves the store: it becomes a sentence of ours."""
    try:
        yield
    except StoreError:
        raise
    except sqlite3.DatabaseError as error:
        if isinstance(error, (sqlite3.IntegrityError, sqlite3.ProgrammingError)):
            raise  # a mistake of ours, to be seen as such
        if _code(error) in _DAMAGED or "decode to UTF-8" in str(error):
            raise StoreDamaged(f"{path} is damaged: {error}. Restore a back-up.") from error
        raise StoreUnavailable(f"{path} can't be used now: {error}") from error
