"""Forgetting what is old: in small steps, never what is unfinished, never what was counted."""

from __future__ import annotations

import pytest

from mailer import duties
from mailer.store.batches import HELD_REVIEW_MS
from mailer.store.cursors import Failure
from mailer.vocabulary import EventType, OutcomeKind, State
from tests.store.recount import differences
from tests.store.world import DAY_MS, World, event, message, people

RETENTION_MS = 30 * DAY_MS


def prune(world: World, step: int = 10_000) -> int:
    with world.store.write():
        return world.store.batches.prune(retention_ms=RETENTION_MS, now_ms=world.now_ms, step=step)


def prune_all(world: World, step: int = 10_000) -> int:
    steps = 0
    while prune(world, step):
        steps += 1
        assert steps < 100
    return steps


def test_what_is_finished_and_old_is_forgotten_and_still_counted(uncounted: World) -> None:
    ids = uncounted.accept(*people(3), topic_id="news")
    mails = uncounted.claim()
    uncounted.record(mails)
    uncounted.learn(event(EventType.DELIVERY, request_id=ids[0]))
    counted = uncounted.counters("news")
    uncounted.now_ms += RETENTION_MS
    prune_all(uncounted)
    assert [uncounted.store.mails.get(request_id) for request_id in ids] == [None] * 3
    assert uncounted.store.mails.events(mails[0].id) == []
    assert uncounted.store.mails.attempts(mails[0].id) == []
    assert uncounted.store.batches.get("1") is None
    assert uncounted.counters("news") == counted
    removed = [(1, State.DELIVERED), (1, State.SENT), (1, State.SENT)]
    assert differences(uncounted.path, removed) == []


def test_nothing_younger_is_forgotten(uncounted: World) -> None:
    (request_id,) = uncounted.accept("a@x.org")
    uncounted.record(uncounted.claim())
    uncounted.now_ms += RETENTION_MS - 1
    prune_all(uncounted)
    assert uncounted.state(request_id) is State.SENT


def test_age_counts_from_the_last_change(uncounted: World) -> None:
    (request_id,) = uncounted.accept("a@x.org")
    uncounted.record(uncounted.claim())
    uncounted.now_ms += RETENTION_MS - 1000
    prune_all(uncounted)
    uncounted.learn(event(EventType.DELIVERY, request_id=request_id))
    uncounted.now_ms += RETENTION_MS - 1
    prune_all(uncounted)
    assert uncounted.state(request_id) is State.DELIVERED
    uncounted.now_ms += 1
    prune_all(uncounted)
    assert uncounted.store.mails.get(request_id) is None


def test_unfinished_mail_is_never_forgotten(uncounted: World) -> None:
    ids = uncounted.accept(*people(4))
    waiting = uncounted.accept("a@x.org", due_in_s=300 * 86400)
    sent, uncertain, _, _ = uncounted.claim(calls=4)
    uncounted.record(sent)
    uncounted.record(uncertain, OutcomeKind.UNKNOWN)
    for _ in range(5):
        uncounted.now_ms += 2 * RETENTION_MS
        prune_all(uncounted)
    expected = [State.SENT, State.UNCERTAIN, State.SENDING, State.SENDING]
    assert uncounted.states(ids) == expected
    assert uncounted.states(waiting) == [State.PENDING]


def test_a_large_batch_goes_a_few_at_a_time(uncounted: World) -> None:
    uncounted.accept(*people(25))
    uncounted.record(uncounted.claim())
    uncounted.now_ms += RETENTION_MS
    steps = 0
    left = 25
    while prune(uncounted, 10):
        steps += 1
        batch = uncounted.store.batches.get("1")
        now_left = sum(batch.states.values()) if batch else 0
        assert left - now_left <= 10
        left = now_left
    assert (left, steps) == (0, 3)


def test_many_small_batches_go_together(uncounted: World) -> None:
    """One mail a request is what a shop sends: a step must not be spent on each."""
    for email in people(30):
        uncounted.accept(email)
    uncounted.record(uncounted.claim())
    uncounted.now_ms += RETENTION_MS
    assert prune_all(uncounted, 20) <= 4
    assert uncounted.store.mails.list() == []


def test_a_mail_retried_while_its_batch_is_being_forgotten_stays(uncounted: World) -> None:
    ids = uncounted.accept(*people(5), topic_id="news")
    uncounted.record(uncounted.claim(), OutcomeKind.REJECTED)
    uncounted.now_ms += RETENTION_MS
    prune(uncounted, 2)
    with uncounted.store.write():
        retried, _ = uncounted.store.topics.retry("news", after=0, now_ms=uncounted.now_ms)
    prune_all(uncounted)
    claimed = uncounted.claim_ids()
    assert 0 < len(claimed) == retried < 5
    assert set(claimed) < set(ids)


def test_ids_of_forgotten_mail_never_come_again(uncounted: World) -> None:
    uncounted.accept(*people(3))
    mails = uncounted.claim()
    uncounted.record(mails)
    uncounted.now_ms += RETENTION_MS
    prune_all(uncounted)
    uncounted.accept(*people(2))
    assert min(mail.id for mail in uncounted.claim()) > max(mail.id for mail in mails)


def test_shared_content_goes_with_its_batch_only(uncounted: World) -> None:
    batch = uncounted.batch(message("a@x.org"), message("b@x.org"))
    with uncounted.store.write():
        uncounted.store.batches.accept(batch, max_queued=9)
    other = uncounted.accept("c@x.org", due_in_s=300 * 86400)
    uncounted.record(uncounted.claim())
    uncounted.now_ms += RETENTION_MS
    prune_all(uncounted)
    assert [mail.request_id for mail in uncounted.store.mails.list()] == other
    uncounted.now_ms += 300 * DAY_MS
    (mail,) = uncounted.claim()
    assert uncounted.store.messages.get(mail.message_id).subject == "Hello"


def test_old_events_of_no_mail_are_forgotten(uncounted: World) -> None:
    for n in range(5):
        uncounted.learn(event(EventType.DELIVERY, provider_id=f"p-{n}", at_ms=uncounted.now_ms + n))
    forget = uncounted.store.housekeeping.forget_events
    with uncounted.store.write():
        assert forget(uncounted.now_ms + 4, 3) == 3
        assert forget(uncounted.now_ms + 4, 3) == 1
        assert forget(uncounted.now_ms + 4, 3) == 0
    mail = uncounted.accept_and_claim()
    uncounted.record(mail, provider_id="p-4")
    assert uncounted.state(mail.request_id) is State.DELIVERED


LAG_MS = 7 * DAY_MS


def all_pruned(world: World) -> None:
    """What the duty does, with event plugins in view."""
    for _ in range(3):
        duties.prune(world.store, world.now_ms, RETENTION_MS, LAG_MS)


def register(world: World, *plugins: str) -> None:
    with world.store.write():
        world.store.cursors.register(plugins)


def told_of_all(world: World, plugin: str) -> None:
    with world.store.write():
        before = world.store.cursors.get(plugin).event
        assert world.store.cursors.move(plugin, before, world.store.log.end())


def test_what_a_plugin_was_not_told_of_is_kept(uncounted: World) -> None:
    register(uncounted, "quick", "slow")
    (request_id,) = uncounted.accept("a@x.org")
    uncounted.record(uncounted.claim())
    uncounted.now_ms += RETENTION_MS
    told_of_all(uncounted, "quick")
    all_pruned(uncounted)
    page = uncounted.store.log.page(0, limit=10)
    assert [(e.type, e.mail_id) for e in page.events] == [("accepted", None), ("sent", request_id)]
    told_of_all(uncounted, "slow")
    uncounted.learn(event(EventType.OTHER, at_ms=uncounted.now_ms))
    uncounted.now_ms += HELD_REVIEW_MS
    all_pruned(uncounted)
    assert [e.type for e in uncounted.store.log.page(0, limit=10).events] == ["other"]
    assert uncounted.store.mails.get(request_id) is None


def test_but_no_longer_than_the_limit(uncounted: World, caplog: pytest.LogCaptureFixture) -> None:
    register(uncounted, "slow")
    (request_id,) = uncounted.accept("a@x.org")
    uncounted.record(uncounted.claim())

    def warned() -> bool:
        caplog.clear()
        duties.warn_of_lag(uncounted.store, uncounted.now_ms, RETENTION_MS, LAG_MS)
        return "event plugin slow was not told" in caplog.text

    uncounted.now_ms += RETENTION_MS - 1
    assert not warned()
    uncounted.now_ms += 1
    assert warned()
    uncounted.now_ms += LAG_MS - 1
    all_pruned(uncounted)
    assert uncounted.store.mails.get(request_id) is not None
    uncounted.learn(event(EventType.OTHER, at_ms=uncounted.now_ms))
    uncounted.now_ms += HELD_REVIEW_MS + 1
    all_pruned(uncounted)
    assert uncounted.store.mails.get(request_id) is None
    assert [e.type for e in uncounted.store.log.page(0, limit=10).events] == ["other"]


def test_a_plugin_that_is_gone_holds_nothing(uncounted: World) -> None:
    register(uncounted, "gone")
    (request_id,) = uncounted.accept("a@x.org")
    uncounted.record(uncounted.claim())
    uncounted.now_ms += RETENTION_MS
    register(uncounted, "other")
    all_pruned(uncounted)
    assert uncounted.store.mails.get(request_id) is None
    register(uncounted, "gone")
    assert uncounted.store.cursors.get("gone").event == 0, "it goes on where it was"


def test_old_dead_letters_are_forgotten(uncounted: World) -> None:
    with uncounted.store.write():
        for n in range(3):
            failure = Failure(n + 1, 1, "")
            uncounted.store.cursors.put_aside("plugin", failure, now_ms=uncounted.now_ms + n)
    uncounted.now_ms += RETENTION_MS + 2
    all_pruned(uncounted)
    (letter,) = uncounted.store.cursors.dead_letters(limit=10)
    assert letter.failure.event == 3
