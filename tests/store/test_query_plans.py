"""No statement that runs again and again walks through a whole table that grows.

The statements are those SQLite says it runs while the store is used, not copies of them.
"""

from __future__ import annotations

import re
from contextlib import closing

import pytest

from mailer import duties, plugins
from mailer.gauges import samples
from mailer.hookspecs import Quota
from mailer.pacing import Lesson
from mailer.settings import load
from mailer.store.connection import sqlite3
from mailer.store.cursors import Failure
from mailer.store.idempotency import KeptAnswer
from mailer.store.slots import UsedSlot
from mailer.vocabulary import EventType, Lane, OutcomeKind, State, SuppressionReason
from tests.store.world import DAY_MS, HandClock, World, ask, event, message, people, rate

FEW_ROWS = frozenset(
    {
        "CONSTANT",
        "cursors",
        "idle_plugins",
        "json_each",
        "measures",
        "meta",
        "queue_depths",
        "senders",
        "slots",
        "sends",
        "sqlite_sequence",
        "topics",
        "transports",
        "window_counts",
    }
)
"""A walk through these is cheap: what they hold does not grow with the mail that is kept."""
FEW_ENTRIES = ("mails_sender", "mails_settle")
"""Indexes of what is in flight."""
ENDS_SOON = "SELECT coalesce(min(id), 0) FROM events"
"""Walks through events in their order up to the first that is young enough."""


def use_everything(world: World) -> None:
    """What API, senders, supervisor and people do to a store, each at least once."""
    store = world.store
    sender = world.new_sender()
    with store.write():
        store.transports.register("post", reports_events=False)
        store.suppressions.add(
            "b@x.org", scope="", reason=SuppressionReason.MANUAL, detail="", now_ms=world.now_ms
        )
        store.idempotency.keep("ann", "k", KeptAnswer(b"", 200, b""), now_ms=world.now_ms)
        batch = world.batch(
            message(*people(8), topic_id="news/a"),
            message("a@x.org", lane=Lane.INTERACTIVE, expires_at_ms=world.now_ms + 5),
        )
        store.batches.accept(batch, max_queued=100)
    store.idempotency.find("ann", "k")
    world.accept("late@x.org", due_in_s=60)
    hand_over(world, sender)
    tell_plugins(world)
    look(world)
    steer(world, batch.batch_id)
    do_duties(world)


def hand_over(world: World, sender: int) -> None:
    store = world.store
    store.queue.head(["post"], world.now_ms)
    store.queue.has_alone("post")
    store.queue.next_due_at_ms("post")
    limit = rate(500)
    store.slots.next_at_us({"post": limit, "post@x.org": limit}, world.now_us)
    store.slots.used_since("post@x.org", 0)
    store.queue.names()
    store.windows.counts("post", 3600, world.now_us)
    with store.write():
        store.windows.begin(new_boot=True, wall_ms=world.now_ms, mono_us=world.now_us)
        store.windows.add([("post", world.now_us, 0)])
        store.windows.forget(world.now_us)
    leases = world.claim_leases(sender=sender, limit=limit, calls=5)
    mails = [mail for lease in leases for mail in lease.mails]
    store.messages.get(mails[0].message_id)
    for mail, kind in zip(mails, OutcomeKind, strict=False):
        world.record(mail, kind, provider_id=f"p-{mail.id}")
    with store.write():
        store.slots.used([UsedSlot(leases[0].slot_id, world.now_us, 1)])
        store.outcomes.give_back([mails[-1].id], now_ms=world.now_ms)
        store.senders.renew(sender, world.now_us)
        store.transports.block("post", world.now_us, "")
        store.transports.await_trial("post", world.now_us)
        store.transports.learn_rate("post", Lesson(9.0, world.now_us))
        store.transports.unblock("post")
        store.transports.note_unreachable("post", "no route")
        store.transports.keep_quota("post", Quota(14, 200, 1), world.now_ms)
    store.transports.left_today("post", world.now_ms)
    world.claim(sender=sender, alone=True)
    world.learn(
        event(EventType.DELIVERY, provider_id="p-1"),
        event(EventType.BOUNCE, request_id=mails[1].request_id, permanent=True),
        event(EventType.OPEN, request_id=mails[0].request_id),
        event(EventType.COMPLAINT, provider_id="parked"),
    )
    with store.write():
        store.slots.give_back(sender, world.now_us)
        shelf = store.shelf("plugin")
        shelf.put("a", b"")
        shelf.remove("b")
    shelf.get("a")
    shelf.read("a", before="b")
    world.rescue(sender)


def tell_plugins(world: World) -> None:
    """What notifiers, API and people do with the event log."""
    store, now_ms = world.store, world.now_ms
    with store.write():
        store.cursors.register(["plugin"])
        failure = Failure(1, 1, "")
        store.cursors.fail("plugin", failure, retry_at_ms=now_ms)
        store.cursors.move("plugin", store.log.end(), store.log.end())
        store.cursors.put_aside("plugin", failure, now_ms=now_ms)
        store.cursors.retry("plugin")
        store.cursors.retry("plugin", 1)
        store.cursors.drop("plugin", 2)
        store.idle.rest("plugin")
        store.idle.wake("plugin")
    store.idle.all()
    store.cursors.all()
    store.cursors.get("plugin")
    store.cursors.to_retry("plugin")
    store.cursors.dead_letters(limit=10)
    store.cursors.dead_count("plugin")
    store.log.get(1)
    store.log.page(0, limit=10)
    store.log.page(0, limit=10, topic_id="news/a")
    store.log.page(0, limit=10, type_=EventType.BOUNCE)


def look(world: World) -> None:
    store = world.store
    (request_id,) = world.accept("show@x.org", topic_id="show")
    mail = world.mail(request_id)
    store.mails.attempts(mail.id)
    store.mails.events(mail.id)
    for question in (
        {"topic_id": "show"},
        {"recipient": "show@x.org"},
        {"batch_id": "1", "state": State.SENT},
        {"state": State.SENT},
    ):
        store.mails.list(**question)
    store.batches.get("1")
    store.topics.get("show")
    store.topics.list(after="", limit=10)
    store.suppressions.list(email=None, after=("", ""), limit=10)
    store.suppressions.list(email="b@x.org", after=("", ""), limit=10)
    store.status.depths()
    store.transports.troubled(world.now_us)
    store.status.oldest_due_at_ms(world.now_ms)
    samples(store, load({}), plugins.load(), HandClock(world))


def steer(world: World, batch_id: str) -> None:
    store, now_ms = world.store, world.now_ms
    moved, stopped = world.accept("moved@x.org", "stopped@x.org", topic_id="news/a")
    with store.write():
        store.topics.pause("news/a")
        world.store.queue.claim(ask(), now_ms=now_ms, now_us=world.now_us)
        store.topics.resume("news/a")
        store.topics.unpark("news/a", after=0, now_ms=now_ms)
        store.topics.retry("news/a", after=0, now_ms=now_ms)
        store.mails.reschedule(moved, now_ms + 1, now_ms=now_ms)
        store.mails.cancel(stopped, now_ms=now_ms)
        store.topics.begin_cancel("news/a")
        store.topics.cancel("news/a", after=0, now_ms=now_ms)
        store.mails.cancel_batch(batch_id, now_ms=now_ms)
        store.suppressions.remove("b@x.org", scope=None)


def do_duties(world: World) -> None:
    world.now_ms += 40 * DAY_MS
    duties.settle(world.store, world.now_ms)
    duties.expire(world.store, world.now_ms)
    duties.finish_cancels(world.store, world.now_ms, {})
    duties.finish_resumes(world.store, world.now_ms, {})
    duties.forget_slots(world.store, world.now_us, 1)
    world.record(world.claim(calls=100))
    world.learn(event(EventType.OTHER, at_ms=world.now_ms))
    for _ in range(2):
        world.now_ms += 40 * DAY_MS
        duties.prune(world.store, world.now_ms, 30 * DAY_MS, DAY_MS)


def statements(world: World) -> list[str]:
    """What SQLite was told while everything was used, each statement once for its shape."""
    told: list[str] = []
    world.store._db._connection.set_trace_callback(told.append)
    use_everything(world)
    shapes = {re.sub(r"'(?:[^']|'')*'|\b\d+\b", "?", sql): sql for sql in told}
    wanted = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE)\b")
    return [sql for shape, sql in sorted(shapes.items()) if wanted.match(shape)]


def walks(database: sqlite3.Connection, sql: str) -> list[str]:
    """The steps of a statement's plan that read a whole table or a whole index.

    They say SCAN, or for a min() or max() SEARCH without a condition in brackets.
    """
    steps = [step for *_, step in database.execute(f"EXPLAIN QUERY PLAN {sql}")]
    tables = {alias: name for name, alias in re.findall(r"(?:FROM|JOIN) (\w+) (\w)\b", sql)}
    found = [(step, re.match(r"(?:SCAN|SEARCH) (\w+)(?!.*\()", step)) for step in steps]
    return [
        step
        for step, table in found
        if table and tables.get(table[1], table[1]) not in FEW_ROWS and ENDS_SOON not in sql
        if not step.endswith(FEW_ENTRIES)
    ]


def pretend_to_be_large(database: sqlite3.Connection) -> None:
    """Statistics as they are when a hundred thousand times as much mail is kept."""
    database.execute("ANALYZE")
    for row, stat in database.execute("SELECT rowid, stat FROM sqlite_stat1").fetchall():
        first, *rest = map(int, stat.split())
        numbers = [first * 100_000, *(n if n == 1 else n * 100_000 for n in rest)]
        larger = " ".join(map(str, numbers))
        database.execute("UPDATE sqlite_stat1 SET stat = ? WHERE rowid = ?", (larger, row))
    database.commit()


@pytest.mark.parametrize("known", [False, True], ids=["without statistics", "with statistics"])
def test_nothing_that_runs_again_and_again_walks_through_a_table(
    uncounted: World, known: bool
) -> None:
    told = statements(uncounted)
    assert len(told) > 90
    if known:
        with closing(sqlite3.connect(uncounted.path)) as database:
            pretend_to_be_large(database)
    with closing(sqlite3.connect(uncounted.path)) as database:
        found = {sql: steps for sql in told if (steps := walks(database, sql))}
    assert found == {}


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM mails WHERE detail = 'x'",
        "SELECT count(*) FROM events WHERE at_ms > 5",
        "DELETE FROM attempts WHERE outcome = 'x'",
        "SELECT max(due_at_ms) FROM mails WHERE waits_for <> 'topic'",
        "SELECT m.id FROM mails m JOIN topics t ON t.id = m.topic WHERE m.detail = t.topic_id",
    ],
)
def test_a_walk_would_be_found(world: World, sql: str) -> None:
    with closing(sqlite3.connect(world.path)) as database:
        assert walks(database, sql)
        assert not walks(database, "SELECT * FROM mails WHERE id = 5")
