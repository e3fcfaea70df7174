"""Creating the database, or bringing its schema up to date: the only writer of the schema."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path
from typing import Final

from mailer.errors import StoreUnavailable
from mailer.store.connection import Database, remembered_commits
from mailer.store.place import check_place
from mailer.store.schema import OLDEST_PROGRAM, migrations
from mailer.store.verify import check_additive, is_newer, lost_commits, verify

PAGE_BYTES: Final = 4096


def migrate(path: Path, *, online: bool = False) -> list[str]:
    """Create the database or bring its schema up to date; the names of the migrations applied.

    A schema of the next release stays as it is: this program can work on it. With `online` what
    the programs that made the present schema could not work on raises SchemaMismatch.
    Raises StoreDamaged, SchemaMismatch or StoreUnavailable, and leaves the file as it was then.
    """
    path = path.resolve()
    if not path.parent.is_dir():
        raise StoreUnavailable(f"the directory {path.parent} does not exist; create it")
    check_place(path)
    _roll_back_creation(path)
    if path.exists() and path.stat().st_size > 0:
        verify(path)
    elif remembered_commits(path):
        raise lost_commits(path, 0)
    else:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
    database = Database(path)
    try:
        if online:
            check_additive(database)
        applied = database.migrate(migrations)
        if not is_newer(database):
            database.set_oldest_program(OLDEST_PROGRAM)
        return applied
    finally:
        database.close()


def _roll_back_creation(path: Path) -> None:
    """Undo the first write of a database whose creation was killed before it had its WAL.

    Such a file has a journal beside it and can't be read before that is rolled back.
    """
    journal = path.with_name(path.name + "-journal")
    if journal.exists() and path.stat().st_size <= PAGE_BYTES:
        with closing(Database(path)) as database, database.locked():
            database.one("PRAGMA schema_version")
