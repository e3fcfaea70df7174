"""A migration killed at any call that writes: run again it succeeds, and nothing was half done."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from mailer.store import Store
from mailer.store.connection import Database
from mailer.store.migrate import migrate
from mailer.store.verify import verify
from tests.faults.fault import killed_at
from tests.faults.load import integrity, query
from tests.store.world import RULES

_MIGRATE = """
import sys
from pathlib import Path
from mailer.store.migrate import migrate
migrate(Path(sys.argv[1]))
"""

# A later version: a table, a column, and a change to every row.
_UPGRADE = """
import sys
from pathlib import Path
from mailer.store.connection import Database
from mailer.store.schema import migrations
@migrations()
def m999_later(db):
    db.execute("CREATE TABLE later (id INTEGER PRIMARY KEY) STRICT")
    db.execute("ALTER TABLE sends ADD COLUMN later TEXT")
    db.execute("UPDATE sends SET later = hex(zeroblob(1000))")
database = Database(Path(sys.argv[1]))
database.migrate(migrations)
database.close()
"""

WRITING = ("pwrite64", "fsync,fdatasync", "ftruncate", "unlink")


@pytest.mark.parametrize("syscall", WRITING)
def test_a_first_migration_killed(
    tmp_path: Path, often: Callable[[int], int], syscall: str
) -> None:
    for number in at_each(often):
        path = tmp_path / f"{number}.db"
        if not killed(_MIGRATE, path, syscall, number):
            break
        migrate(path)
        verify(path)
        assert integrity(path) == "ok"
        with closing(Store(path, RULES)) as store:
            assert len(store.signing_key()) == 32
    assert number > 1


@pytest.mark.parametrize("syscall", WRITING)
def test_an_upgrade_killed(tmp_path: Path, often: Callable[[int], int], syscall: str) -> None:
    for number in at_each(often):
        path = tmp_path / f"{number}.db"
        migrate(path)
        with closing(Database(path)) as database, database.write():
            database.many("INSERT INTO sends VALUES ('t', ?, 1)", [(n,) for n in range(20)])
        was_killed = killed(_UPGRADE, path, syscall, number)
        tables = len(query(path, "SELECT 1 FROM sqlite_master WHERE name = 'later'"))
        columns = len(query(path, "SELECT 1 FROM pragma_table_info('sends') WHERE name = 'later'"))
        done = len(query(path, "SELECT 1 FROM _sqlite_migrations WHERE name = 'm999_later'"))
        assert (tables, columns) == (done, done)
        assert integrity(path) == "ok"
        subprocess.run([sys.executable, "-c", _UPGRADE, str(path)], check=True)
        assert query(path, "SELECT count(*), count(later) FROM sends") == [(20, 20)]
        if not was_killed:
            break


def at_each(often: Callable[[int], int]) -> range:
    """Every call in the full count, else one in ten, the first ones among them."""
    return range(1, 1000, 10 // often(10))


def killed(program: str, path: Path, syscall: str, number: int) -> bool:
    """Run a program and kill it at its n-th such call; False when it made fewer."""
    command = [*killed_at(syscall, number), sys.executable, "-c", program, str(path)]
    status = subprocess.run(command, check=False).returncode
    assert status in {0, -9}
    return status != 0
