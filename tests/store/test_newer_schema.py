"""Programs work on the schema of the next release, which only adds to theirs, and on no newer."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

import pytest
import sqlite_utils
from sqlite_utils import Migrations

from mailer.errors import SchemaMismatch
from mailer.hookspecs import ProviderEvent
from mailer.store import Store
from mailer.store.connection import Database
from mailer.store.migrate import migrate
from mailer.store.schema import OLDEST_PROGRAM, migrations
from mailer.store.verify import verify
from mailer.vocabulary import EventType, State
from tests.store.world import RULES, World

KNOWN = len(migrations._migrations)
LAST = migrations._migrations[-1].name


def upgrade(world: World, oldest_program: int) -> None:
    """As the next release might: a table, an index, and a column in every table."""
    later = Migrations("mailer")

    @later(name="m999_later")
    def _(db: sqlite_utils.Database) -> None:
        for table in db.table_names():
            if not table.startswith(("sqlite_", "_sqlite_")):
                db.execute(f"ALTER TABLE {table} ADD COLUMN later TEXT DEFAULT 'x'")
        db.execute("CREATE TABLE later (id INTEGER PRIMARY KEY) STRICT")

    with closing(Database(world.path)) as database:
        database.migrate(later)
        database.set_oldest_program(oldest_program)


def live(world: World) -> None:
    """All that can become of mail."""
    sent, *doubtful = world.accept("a@x.org", "b@x.org", "c@x.org", topic_id="news")
    claimed = world.claim()
    world.record(claimed[:1], provider_id="p" + sent)
    world.rescue(1)
    event = ProviderEvent(EventType.DELIVERY, world.now_ms, "ses", "e" + sent, request_id=sent)
    world.learn(event)
    with world.store.write():
        world.store.topics.pause("news")
        world.store.topics.resume("news")
    assert world.state(sent) is State.DELIVERED
    assert world.states(doubtful) == [State.UNCERTAIN] * 2


def test_a_process_works_on_while_its_schema_is_migrated(world: World) -> None:
    live(world)
    upgrade(world, KNOWN)
    live(world)


def test_the_release_before_works_on_the_new_schema(world: World) -> None:
    """After an upgrade that was taken back."""
    upgrade(world, KNOWN)
    verify(world.path)
    assert migrate(world.path) == []
    world.store = world.twin()
    live(world)
    with closing(Database(world.path)) as database:
        assert database.one("PRAGMA user_version") == (KNOWN,), "the older program left it"


@pytest.mark.parametrize("oldest_program", [0, KNOWN + 1])
@pytest.mark.parametrize("begin", [verify, migrate, lambda path: Store(path, RULES)])
def test_other_newer_schemas_are_refused(
    world: World, oldest_program: int, begin: Callable[..., object]
) -> None:
    upgrade(world, oldest_program)
    with pytest.raises(SchemaMismatch, match="written by a newer mailer"):
        begin(world.path)


def test_what_running_programs_could_not_work_on_waits_until_they_are_stopped(
    world: World,
) -> None:
    assert migrate(world.path, online=True) == [], "nothing to do"
    with closing(Database(world.path)) as database, database.write():
        database.run("DELETE FROM _sqlite_migrations WHERE name = ?", [LAST])
    with pytest.raises(SchemaMismatch, match="Stop mailer first"):
        migrate(world.path, online=True)
    assert LAST not in str(migrations.applied(sqlite_utils.Database(world.path)))


def test_a_migrated_file_says_who_may_work_on_it(world: World) -> None:
    assert OLDEST_PROGRAM < KNOWN
    with closing(Database(world.path)) as database:
        assert database.one("PRAGMA user_version") == (OLDEST_PROGRAM,)
