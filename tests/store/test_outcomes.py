"""Recording what came of a hand-over, and deciding what nobody knows."""

from __future__ import annotations

import pytest

from mailer.hookspecs import Outcome
from mailer.store.sent import Attempted
from mailer.vocabulary import EventType, OutcomeKind, State, UncertainPolicy, WaitsFor
from tests.store.world import DAY_MS, GRACE_MS, World, event, people

K = OutcomeKind


@pytest.mark.parametrize(
    ("kind", "state", "attempts", "said"),
    [
        (K.ACCEPTED, State.SENT, 1, ["sent"]),
        (K.REJECTED, State.FAILED, 1, ["failed"]),
        (K.DEFERRED, State.PENDING, 1, ["deferred"]),
        (K.THROTTLED, State.PENDING, 0, []),
        (K.UNKNOWN, State.UNCERTAIN, 1, ["uncertain"]),
    ],
)
def test_each_outcome_has_its_end(
    world: World, kind: OutcomeKind, state: State, attempts: int, said: list[str]
) -> None:
    mail = world.accept_and_claim(topic_id="t")
    world.record(mail, kind, "its words", provider_id="p-1")
    found = world.mail(mail.request_id)
    assert (found.state, found.attempts) == (state, attempts)
    assert world.said(mail.request_id) == said
    assert world.counters("t") == {"total": 1, state: 1}
    told = [(a.attempt, a.outcome, a.detail) for a in world.store.mails.attempts(mail.id)]
    assert told == [(1, kind, "its words")] * attempts


def test_a_deferred_mail_waits_longer_each_time(world: World) -> None:
    mail = world.accept_and_claim()
    waits = []
    for _ in range(4):
        world.record(mail, K.DEFERRED, "451 later")
        due_at_ms = world.mail(mail.request_id).due_at_ms
        waits.append((due_at_ms - world.now_ms) // 1000)
        world.now_ms = due_at_ms - 1
        assert world.claim() == []
        world.now_ms += 1
        (mail,) = world.claim()
    assert waits == [30, 60, 120, 240]
    assert mail.attempt == 5


def test_a_deferred_mail_is_given_up_at_its_age(world: World) -> None:
    mail = world.accept_and_claim()
    world.now_ms += 2 * DAY_MS - 29_000
    world.record(mail, K.DEFERRED, "451 later")
    assert world.state(mail.request_id) is State.FAILED
    assert "451 later" in (world.mail(mail.request_id).detail or "")


def test_age_counts_from_the_due_time(world: World) -> None:
    (request_id,) = world.accept("a@x.org", due_in_s=5 * 86400)
    world.pass_s(5 * 86400)
    (mail,) = world.claim()
    world.record(mail, K.DEFERRED)
    assert world.state(request_id) is State.PENDING


def test_a_throttled_mail_keeps_its_place(world: World) -> None:
    first, second = world.accept("a@x.org", "b@x.org")
    (mail,) = world.claim(calls=1)
    world.record(mail, K.THROTTLED, "slow down")
    assert world.claim_ids() == [first, second]
    assert world.mail(first).attempts == 1


def test_a_mail_given_back_keeps_its_place_and_its_attempt(world: World) -> None:
    ids = world.accept("a@x.org", "b@x.org")
    (mail,) = world.claim(calls=1)
    with world.store.write():
        world.store.outcomes.give_back([mail.id], now_ms=world.now_ms)
    assert [m.attempt for m in world.claim()] == [1, 1]
    assert world.states(ids) == [State.SENDING, State.SENDING]


def test_what_has_ended_is_not_given_back(world: World) -> None:
    mail = world.accept_and_claim()
    world.record(mail)
    with world.store.write():
        world.store.outcomes.give_back([mail.id], now_ms=world.now_ms)
    assert world.state(mail.request_id) is State.SENT


def test_a_whole_call_is_recorded_each_mail_by_its_own_outcome(world: World) -> None:
    ids = world.accept(*people(5))
    kinds = list(OutcomeKind)
    attempts = [
        Attempted(mail.id, Outcome(kind), world.now_ms, world.now_ms)
        for mail, kind in zip(world.claim(), kinds, strict=True)
    ]
    with world.store.write():
        world.store.outcomes.record(attempts[::-1], now_ms=world.now_ms, jitter=lambda: 1.0)
    expected = [State.SENT, State.FAILED, State.PENDING, State.PENDING, State.UNCERTAIN]
    assert world.states(ids) == expected


def test_an_outcome_recorded_twice_counts_once(world: World) -> None:
    mail = world.accept_and_claim()
    world.record(mail)
    world.record(mail)
    assert world.counters() == {"total": 1, "sent": 1}
    assert world.said(mail.request_id) == ["sent"]


@pytest.mark.parametrize(("reports", "grace_ms"), [(True, GRACE_MS), (False, 2_000)])
def test_an_uncertain_mail_waits_for_evidence_only_where_some_may_come(
    world: World, reports: bool, grace_ms: int
) -> None:
    with world.store.write():
        world.store.transports.register("post", reports_events=reports)
    mail = world.accept_and_claim()
    world.record(mail, K.UNKNOWN)
    world.now_ms += grace_ms - 1
    assert world.settle() == 0
    world.now_ms += 1
    assert world.settle() == 1
    assert world.said(mail.request_id) == ["uncertain", "resent"]
    assert [again.attempt for again in world.claim()] == [2]


def test_by_the_other_policy_it_is_given_up(world: World) -> None:
    world.rules = world.rules.__class__(DAY_MS, 0, UncertainPolicy.GIVE_UP)
    world.store = world.twin()
    mail = world.accept_and_claim()
    world.record(mail, K.UNKNOWN)
    world.pass_s(10)
    world.settle()
    assert world.state(mail.request_id) is State.FAILED
    assert world.claim() == []


def test_settling_goes_in_steps(world: World) -> None:
    world.accept(*people(5))
    world.record(world.claim(), K.UNKNOWN)
    world.pass_s(10)
    with world.store.write():
        assert world.store.outcomes.settle(now_ms=world.now_ms, step=3) == 3
        assert world.store.outcomes.settle(now_ms=world.now_ms, step=3) == 2
        assert world.store.outcomes.settle(now_ms=world.now_ms, step=3) == 0


def test_a_late_answer_settles_an_uncertain_mail(world: World) -> None:
    mail = world.accept_and_claim()
    world.record(mail, K.UNKNOWN)
    world.record(mail, K.ACCEPTED, provider_id="p-1")
    assert world.state(mail.request_id) is State.SENT
    world.pass_s(10)
    assert world.settle() == 0


@pytest.mark.parametrize("kind", [K.DEFERRED, K.THROTTLED, K.UNKNOWN])
def test_a_mail_cancelled_in_flight_is_not_sent_again(world: World, kind: OutcomeKind) -> None:
    mail = world.accept_and_claim()
    with world.store.write():
        found = world.store.mails.cancel(mail.request_id, now_ms=world.now_ms)
    assert found.state is State.SENDING
    world.record(mail, kind, "its words")
    world.pass_s(3600)
    world.settle()
    assert world.state(mail.request_id) is State.CANCELLED
    assert world.said(mail.request_id)[-1] == "cancelled"
    assert world.claim() == []


def test_a_mail_cancelled_in_flight_may_have_been_taken(world: World) -> None:
    mail = world.accept_and_claim()
    with world.store.write():
        world.store.mails.cancel(mail.request_id, now_ms=world.now_ms)
    world.record(mail)
    assert world.state(mail.request_id) is State.SENT


def test_giving_back_a_cancelled_mail_cancels_it_and_says_so(world: World) -> None:
    mail = world.accept_and_claim()
    with world.store.write():
        world.store.mails.cancel(mail.request_id, now_ms=world.now_ms)
        world.store.outcomes.give_back([mail.id], now_ms=world.now_ms)
    assert world.state(mail.request_id) is State.CANCELLED
    assert world.said(mail.request_id) == ["cancelled"]


def test_what_is_sent_is_counted_in_the_minute_it_was_handed_over(world: World) -> None:
    world.accept(*people(3), topic_id="t")
    world.record(world.claim(calls=2))
    minute = world.now_ms // 60_000
    assert world.store.transports.sent_since(minute, "post") == 2
    assert world.store.transports.sent_since(minute + 1) == 0
    assert world.store.transports.sent_since(minute, "other") == 0
    topic = world.store.topics.get("t")
    assert topic is not None
    assert topic.last_sent_at_ms == world.now_ms


@pytest.mark.parametrize("before", [True, False], ids=["before the record", "while uncertain"])
def test_mail_known_as_taken_by_an_event_is_counted_as_sent(world: World, before: bool) -> None:
    mail = world.accept_and_claim(topic_id="t")
    delivered = event(EventType.DELIVERY, request_id=mail.request_id)
    if before:
        world.learn(delivered)
        world.record(mail, K.ACCEPTED, provider_id="p-1")
    else:
        world.record(mail, K.UNKNOWN)
        world.learn(delivered)
    assert world.store.transports.sent_since(0, "post") == 1
    topic = world.store.topics.get("t")
    assert topic is not None
    assert topic.last_sent_at_ms == world.now_ms


def test_a_mail_due_again_is_found_by_its_new_time(world: World) -> None:
    mail = world.accept_and_claim()
    world.record(mail, K.DEFERRED, retry_after_s=120.0)
    assert world.mail(mail.request_id).waits_for is WaitsFor.DUE_TIME
    assert world.store.queue.next_due_at_ms("post") == world.now_ms + 120_000
