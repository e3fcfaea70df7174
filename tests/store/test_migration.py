"""Creating the database and bringing it up to date: once, whole, and never over something else."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from mailer.errors import SchemaMismatch, StoreDamaged, StoreUnavailable
from mailer.store import Store
from mailer.store.connection import Database, lock_path, sqlite3
from mailer.store.migrate import migrate
from mailer.store.schema import migrations
from mailer.store.verify import verify
from tests.store.world import RULES, World

FORK = multiprocessing.get_context("fork")


def write(path: Path, *statements: str) -> None:
    """With a tool that is not mailer."""
    with sqlite3.connect(path) as database:
        for statement in statements:
            database.execute(statement)
    database.close()


def in_a_process(work: Callable[[], object]) -> int:
    """The exit status of a process that does only this."""
    process = FORK.Process(target=work)
    process.start()
    process.join(30)
    assert process.exitcode is not None
    return process.exitcode


def test_migrating_creates_and_then_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "mailer.db"
    assert migrate(path)
    before = path.read_bytes()
    assert migrate(path) == []
    assert path.read_bytes() == before
    store = Store(path, RULES)
    assert store.batches.queued() == 0
    store.close()


def test_each_database_has_a_key_of_its_own(tmp_path: Path) -> None:
    keys = set()
    for name in ("a.db", "b.db"):
        migrate(tmp_path / name)
        store = Store(tmp_path / name, RULES)
        keys.add(store.signing_key())
        store.close()
    assert len(keys) == 2
    assert {len(key) for key in keys} == {32}


def test_an_open_database_is_closed_to_others(tmp_path: Path) -> None:
    path = tmp_path / "mailer.db"
    path.touch(0o644)
    migrate(path)
    assert {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {0o600}


def test_a_database_of_the_future_is_refused_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "mailer.db"
    migrate(path)
    write(
        path,
        "INSERT INTO _sqlite_migrations (migration_set, name, applied_at)"
        " VALUES ('mailer', 'm999_future', '2100-01-01')",
    )
    before = path.read_bytes()
    for refused in (migrate, verify, lambda path: Store(path, RULES)):
        with pytest.raises(SchemaMismatch, match="m999_future"):
            refused(path)
    assert path.read_bytes() == before


def test_a_database_of_the_past_is_to_be_migrated_first(tmp_path: Path) -> None:
    path = tmp_path / "mailer.db"
    with pytest.raises(SchemaMismatch, match="mailer migrate"):
        Store(path, RULES)
    migrate(path)
    Store(path, RULES).close()


def test_a_foreign_database_is_refused_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    write(path, "CREATE TABLE orders (id INTEGER)", "INSERT INTO orders VALUES (1)")
    before = path.read_bytes()
    with pytest.raises(StoreDamaged, match="not one of mailer's"):
        migrate(path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["shop.db"]


@pytest.mark.parametrize("content", [b"Dear diary, " * 1000, b"\0" * 8192, b"SQLite format 3\0x"])
def test_a_file_that_is_no_database_is_refused_unchanged(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "diary.txt"
    path.write_bytes(content)
    with pytest.raises(StoreDamaged, match=r"diary\.txt"):
        migrate(path)
    assert path.read_bytes() == content


def test_a_database_that_vanished_is_not_made_anew(uncounted: World) -> None:
    """An empty one in its place would seem fine, and everything in it would be lost unseen."""
    uncounted.accept("a@x.org")
    uncounted.close()
    uncounted.path.unlink()
    with pytest.raises(StoreDamaged, match="-lock"):
        migrate(uncounted.path)
    lock_path(uncounted.path).unlink()
    assert migrate(uncounted.path)


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="nowhere"):
        migrate(tmp_path / "nowhere" / "mailer.db")


def killed_at(path: Path, statement: int) -> None:
    """Migrate in a process that is killed when it comes to its n-th statement."""
    database = Database(path)
    left = [statement]

    def count(_sql: str) -> None:
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)

    database._connection.set_trace_callback(count)
    database.migrate(migrations)


def test_a_migration_killed_at_any_statement_can_be_run_again(tmp_path: Path) -> None:
    statement, status = 0, -signal.SIGKILL
    while status:
        statement += 1
        path = tmp_path / f"{statement}.db"
        status = in_a_process(lambda path=path, n=statement: killed_at(path, n))  # type: ignore[misc]
        assert status in {0, -signal.SIGKILL}
        migrate(path)
        verify(path)
        store = Store(path, RULES)
        assert len(store.signing_key()) == 32
        store.close()
    assert statement > 30


def test_migrations_at_the_same_time_do_it_once(tmp_path: Path) -> None:
    path = tmp_path / "mailer.db"
    ready = FORK.Barrier(3)

    def work() -> None:
        ready.wait()
        migrate(path)

    processes = [FORK.Process(target=work) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    verify(path)
    Store(path, RULES).close()
