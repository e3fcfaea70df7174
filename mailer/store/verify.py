"""The checks a database must pass before anything is sent from it; all of them only read."""

from __future__ import annotations

from pathlib import Path
from typing import Final
from urllib.parse import quote

import sqlite_utils

from mailer.errors import SchemaMismatch, StoreDamaged, StoreUnavailable
from mailer.store.connection import Database, lock_path, remembered_commits, sqlite3
from mailer.store.place import check_place
from mailer.store.schema import APPLICATION_ID, OLDEST_PROGRAM, migrations

FULL_CHECK_BYTES: Final = 256 * 1024 * 1024
"""Files up to this size are checked whole at every start; larger ones by a nightly duty."""


def verify(path: Path, *, whole: bool = False) -> None:
    """Read-only: this is our file, whole, of a known schema, and has lost no commit.

    A file larger than FULL_CHECK_BYTES is read from end to end only when `whole` is asked for.
    Raises StoreDamaged, SchemaMismatch or StoreUnavailable, naming the file and the next step.
    """
    check_place(path)
    remembered = remembered_commits(path)
    try:
        connection = sqlite3.connect(f"file:{_quoted(path)}?mode=ro", uri=True, timeout=5)
    except sqlite3.Error as error:
        raise StoreUnavailable(f"{path} can't be opened: {error}") from error
    try:
        _check_identity(connection, path)
        _check_content(connection, path, whole=whole)
        _check_commits(connection, path, remembered)
    except sqlite3.OperationalError as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in {5, 8, 10, 13, 14}:
            raise StoreUnavailable(f"{path} can't be read now: {error}") from error
        raise _damaged(path, str(error)) from error
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise _damaged(path, str(error)) from error
    finally:
        connection.close()


def check_schema(database: Database) -> None:
    """Raises SchemaMismatch unless this program can work on the schema.

    It is the program's own, or that of the next release, which says that it only adds to ours.
    """
    applied = _applied(database)
    (oldest_program,) = database.one("PRAGMA user_version") or (0,)
    known = _known()
    _refuse_newer(database.path, applied - known, oldest_program)
    if known - applied:
        raise SchemaMismatch(f"{database.path} has an older schema: run `mailer migrate` first.")


def check_additive(database: Database) -> None:
    """Raises SchemaMismatch unless the programs of the present schema could work on ours."""
    applied = _applied(database)
    if _known() - applied and not 0 < OLDEST_PROGRAM <= len(applied):
        raise SchemaMismatch(
            f"{database.path}: the new schema is not one that the running version could work on."
            " Stop mailer first, or upgrade by one release at a time."
        )


def is_newer(database: Database) -> bool:
    """Whether a newer program has migrated it."""
    return bool(_applied(database) - _known())


def _applied(database: Database) -> set[str]:
    row = database.one("SELECT count(*) FROM sqlite_master WHERE name = '_sqlite_migrations'")
    if not row or not row[0]:
        return set()
    return {name for (name,) in database.all("SELECT name FROM _sqlite_migrations")}


def _known() -> set[str]:
    return {migration.name for migration in migrations.pending(sqlite_utils.Database(memory=True))}


def _refuse_newer(path: Path, unknown: set[str], oldest_program: int) -> None:
    if unknown and not 0 < oldest_program <= len(_known()):
        raise SchemaMismatch(
            f"{path} was written by a newer mailer (schema has {min(unknown)}):"
            " install that version again, or restore a back-up from before the upgrade."
        )


def _check_identity(connection: sqlite3.Connection, path: Path) -> None:
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    tables = {n for (n,) in connection.execute("SELECT name FROM sqlite_master WHERE type='table'")}
    if tables <= {"_sqlite_migrations"} and application_id == 0:
        if remembered_commits(path):
            raise lost_commits(path, 0)
        return
    if application_id != APPLICATION_ID or "meta" not in tables:
        raise StoreDamaged(
            f"{path} is an SQLite database, but not one of mailer's:"
            " let DATABASE_URL name another file."
        )
    applied = {n for (n,) in connection.execute("SELECT name FROM _sqlite_migrations")}
    (oldest_program,) = connection.execute("PRAGMA user_version").fetchone()
    _refuse_newer(path, applied - _known(), oldest_program)


def _check_content(connection: sqlite3.Connection, path: Path, *, whole: bool) -> None:
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (page_bytes,) = connection.execute("PRAGMA page_size").fetchone()
    if pages * page_bytes > FULL_CHECK_BYTES and not whole:
        return
    problems = [row[0] for row in connection.execute("PRAGMA integrity_check(3)")]
    if problems != ["ok"]:
        raise _damaged(path, problems[0])


def _check_commits(connection: sqlite3.Connection, path: Path, remembered: int) -> None:
    (tables,) = connection.execute(
        "SELECT count(*) FROM sqlite_master WHERE name = 'meta'"
    ).fetchone()
    if not tables:
        return
    (commits,) = connection.execute("SELECT commits FROM meta").fetchone()
    if commits < remembered:
        raise lost_commits(path, commits)


def lost_commits(path: Path, commits: int) -> StoreDamaged:
    return StoreDamaged(
        f"{path} ends at commit {commits}, but commit {remembered_commits(path)} was made: its"
        f" -wal file was lost or swapped, or this is an older copy. Put the missing file back, or"
        f" restore a back-up and remove {lock_path(path)} to accept what it holds: mail sent"
        " since may then be sent again."
    )


def _damaged(path: Path, problem: str) -> StoreDamaged:
    return StoreDamaged(
        f"{path} is damaged ({problem}); nothing is sent from it and it was left as it is."
        " Restore a back-up, or save what can be read with `sqlite3 FILE .recover`."
    )


def _quoted(path: Path) -> str:
    return quote(str(path))
