"""Forgetting what is old: in small steps, never what is unfinished, never what was counted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mailer.vocabulary import EventType, OutcomeKind, State
from tests.store.recount import differences
from tests.store.world import DAY_MS, World, event, message, new_world, people

RETENTION_MS = 30 * DAY_MS


@pytest.fixture
def pruned(tmp_path: Path, migrated: Path) -> Iterator[World]:
    """A world without the usual recount, since forgotten mail stays counted."""
    world = new_world(tmp_path, migrated)
    yield world
    world.close()


def prune(world: World, step: int = 10_000) -> int:
    with world.store.write():
        return world.store.batches.prune(retention_ms=RETENTION_MS, now_ms=world.now_ms, step=step)


def prune_all(world: World, step: int = 10_000) -> int:
    steps = 0
    while prune(world, step):
        steps += 1
        assert steps < 100
    return steps


def test_what_is_finished_and_old_is_forgotten_and_still_counted(pruned: World) -> None:
    ids = pruned.accept(*people(3), topic_id="news")
    mails = pruned.claim()
    pruned.record(mails)
    pruned.learn(event(EventType.DELIVERY, request_id=ids[0]))
    counted = pruned.counters("news")
    pruned.now_ms += RETENTION_MS
    prune_all(pruned)
    assert [pruned.store.mails.get(request_id) for request_id in ids] == [None] * 3
    assert pruned.store.mails.events(mails[0].id) == []
    assert pruned.store.mails.attempts(mails[0].id) == []
    assert pruned.store.batches.get("1") is None
    assert pruned.counters("news") == counted
    removed = [(1, State.DELIVERED), (1, State.SENT), (1, State.SENT)]
    assert differences(pruned.path, removed) == []


def test_nothing_younger_is_forgotten(pruned: World) -> None:
    (request_id,) = pruned.accept("a@x.org")
    pruned.record(pruned.claim())
    pruned.now_ms += RETENTION_MS - 1
    prune_all(pruned)
    assert pruned.state(request_id) is State.SENT


def test_age_counts_from_the_last_change(pruned: World) -> None:
    (request_id,) = pruned.accept("a@x.org")
    pruned.record(pruned.claim())
    pruned.now_ms += RETENTION_MS - 1000
    prune_all(pruned)
    pruned.learn(event(EventType.DELIVERY, request_id=request_id))
    pruned.now_ms += RETENTION_MS - 1
    prune_all(pruned)
    assert pruned.state(request_id) is State.DELIVERED
    pruned.now_ms += 1
    prune_all(pruned)
    assert pruned.store.mails.get(request_id) is None


def test_unfinished_mail_is_never_forgotten(pruned: World) -> None:
    ids = pruned.accept(*people(4))
    waiting = pruned.accept("a@x.org", due_in_s=300 * 86400)
    sent, uncertain, _, _ = pruned.claim(calls=4)
    pruned.record(sent)
    pruned.record(uncertain, OutcomeKind.UNKNOWN)
    for _ in range(5):
        pruned.now_ms += 2 * RETENTION_MS
        prune_all(pruned)
    expected = [State.SENT, State.UNCERTAIN, State.SENDING, State.SENDING]
    assert pruned.states(ids) == expected
    assert pruned.states(waiting) == [State.PENDING]


def test_a_large_batch_goes_a_few_at_a_time(pruned: World) -> None:
    pruned.accept(*people(25))
    pruned.record(pruned.claim())
    pruned.now_ms += RETENTION_MS
    steps = 0
    left = 25
    while prune(pruned, 10):
        steps += 1
        batch = pruned.store.batches.get("1")
        now_left = sum(batch.states.values()) if batch else 0
        assert left - now_left <= 10
        left = now_left
    assert (left, steps) == (0, 3)


def test_many_small_batches_go_together(pruned: World) -> None:
    """One mail a request is what a shop sends: a step must not be spent on each."""
    for email in people(30):
        pruned.accept(email)
    pruned.record(pruned.claim())
    pruned.now_ms += RETENTION_MS
    assert prune_all(pruned, 20) <= 4
    assert pruned.store.mails.list() == []


def test_a_mail_retried_while_its_batch_is_being_forgotten_stays(pruned: World) -> None:
    ids = pruned.accept(*people(5), topic_id="news")
    pruned.record(pruned.claim(), OutcomeKind.REJECTED)
    pruned.now_ms += RETENTION_MS
    prune(pruned, 2)
    with pruned.store.write():
        retried, _ = pruned.store.topics.retry("news", after=0, now_ms=pruned.now_ms)
    prune_all(pruned)
    claimed = pruned.claim_ids()
    assert 0 < len(claimed) == retried < 5
    assert set(claimed) < set(ids)


def test_ids_of_forgotten_mail_never_come_again(pruned: World) -> None:
    pruned.accept(*people(3))
    mails = pruned.claim()
    pruned.record(mails)
    pruned.now_ms += RETENTION_MS
    prune_all(pruned)
    pruned.accept(*people(2))
    assert min(mail.id for mail in pruned.claim()) > max(mail.id for mail in mails)


def test_shared_content_goes_with_its_batch_only(pruned: World) -> None:
    batch = pruned.batch(message("a@x.org"), message("b@x.org"))
    with pruned.store.write():
        pruned.store.batches.accept(batch, max_queued=9)
    other = pruned.accept("c@x.org", due_in_s=300 * 86400)
    pruned.record(pruned.claim())
    pruned.now_ms += RETENTION_MS
    prune_all(pruned)
    assert [mail.request_id for mail in pruned.store.mails.list()] == other
    pruned.now_ms += 300 * DAY_MS
    (mail,) = pruned.claim()
    assert pruned.store.messages.get(mail.message_id).subject == "Hello"


def test_old_events_of_no_mail_are_forgotten(pruned: World) -> None:
    for n in range(5):
        pruned.learn(event(EventType.DELIVERY, provider_id=f"p-{n}", at_ms=pruned.now_ms + n))
    forget = pruned.store.housekeeping.forget_events
    with pruned.store.write():
        assert forget(pruned.now_ms + 4, 3) == 3
        assert forget(pruned.now_ms + 4, 3) == 1
        assert forget(pruned.now_ms + 4, 3) == 0
    mail = pruned.accept_and_claim()
    pruned.record(mail, provider_id="p-4")
    assert pruned.state(mail.request_id) is State.DELIVERED
