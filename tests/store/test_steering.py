"""Cancelling, rescheduling and retrying, one mail, one batch or a whole topic at a time."""

from __future__ import annotations

import pytest

from mailer.errors import Conflict, NotFound
from mailer.store.topics import STEP, CancelStep
from mailer.vocabulary import OutcomeKind, State
from tests.store.world import World, message, people


def cancel_step(world: World, topic_id: str, after: int = 0) -> CancelStep:
    with world.store.write():
        if not after:
            world.store.topics.begin_cancel(topic_id)
        return world.store.topics.cancel(topic_id, after=after, now_ms=world.now_ms)


def cancel(world: World, request_id: str) -> State:
    with world.store.write():
        return world.store.mails.cancel(request_id, now_ms=world.now_ms).state


def reschedule(world: World, request_id: str, in_s: float) -> None:
    with world.store.write():
        due_at_ms = world.now_ms + int(in_s * 1000)
        world.store.mails.reschedule(request_id, due_at_ms, now_ms=world.now_ms)


def retry(world: World, topic_id: str) -> int:
    mails, after = 0, -1
    while after:
        with world.store.write():
            more, after = world.store.topics.retry(
                topic_id, after=max(after, 0), now_ms=world.now_ms
            )
        mails += more
    return mails


def test_a_waiting_mail_is_cancelled_for_good(world: World) -> None:
    ids = world.accept(*people(2))
    assert cancel(world, ids[0]) is State.CANCELLED
    assert cancel(world, ids[0]) is State.CANCELLED
    assert world.said(ids[0]) == ["cancelled"]
    assert world.claim_ids() == [ids[1]]


def test_what_is_done_can_not_be_cancelled(world: World) -> None:
    mail = world.accept_and_claim()
    world.record(mail)
    with pytest.raises(Conflict, match="sent"):
        cancel(world, mail.request_id)
    with pytest.raises(NotFound):
        cancel(world, "ffff-0")


def test_a_topics_cancel_counts_what_it_stopped_and_what_it_could_not(world: World) -> None:
    ids = world.accept(*people(10), topic_id="news")
    other = world.accept("z@x.org", topic_id="newsletter")
    world.record(world.claim(calls=2))
    world.record(world.claim(calls=1), OutcomeKind.UNKNOWN)
    world.claim(calls=3)
    step = cancel_step(world, "news")
    assert step == CancelStep(cancelled=4, in_flight=4, already_sent=2, after=0)
    assert world.states(ids[6:]) == [State.CANCELLED] * 4
    assert world.claim_ids() == other
    assert cancel_step(world, "news").cancelled == 0


def test_nothing_of_a_topic_is_claimed_once_its_cancel_has_begun(world: World) -> None:
    world.accept(*people(STEP + 10), topic_id="news")
    first = cancel_step(world, "news")
    assert (first.cancelled, first.after) == (STEP, STEP)
    twin = world.twin()
    assert world.claim(twin, calls=100) == []
    last = cancel_step(world, "news", first.after)
    assert (last.cancelled, last.in_flight, last.after) == (10, 0, 0)
    assert world.counters("news") == {"total": STEP + 10, "cancelled": STEP + 10}


def test_mail_accepted_after_a_cancel_is_sent(world: World) -> None:
    world.accept(*people(3), topic_id="news")
    cancel_step(world, "news")
    ids = world.accept(*people(2), topic_id="news")
    assert world.claim_ids() == ids


def test_what_comes_back_after_a_cancel_is_not_sent_again(world: World) -> None:
    ids = world.accept(*people(4), topic_id="news")
    mails = world.claim()
    cancel_step(world, "news")
    for mail, kind in zip(mails[:3], ("deferred", "throttled", "unknown"), strict=True):
        world.record(mail, OutcomeKind(kind))
    with world.store.write():
        world.store.outcomes.give_back([mails[3].id], now_ms=world.now_ms)
    world.pass_s(3600)
    world.settle()
    assert set(world.states(ids)) == {State.CANCELLED}


def test_only_a_cancel_that_was_cut_short_is_left_to_be_finished(world: World) -> None:
    world.accept(*people(STEP + 1), topic_id="long")
    world.accept(*people(1), topic_id="short")
    cancel_step(world, "short")
    step = cancel_step(world, "long")
    assert world.store.topics.being_cancelled(world.now_ms) == ()
    assert world.store.topics.being_cancelled(world.now_ms + 1) == ("long",)
    cancel_step(world, "long", step.after)
    assert world.store.topics.being_cancelled(world.now_ms + 1) == ()


def test_a_topic_that_was_never_seen_can_not_be_steered(world: World) -> None:
    for steer in (
        lambda: world.store.topics.pause("news"),
        lambda: world.store.topics.resume("news"),
        lambda: world.store.topics.begin_cancel("news"),
        lambda: world.store.topics.unpark("news", after=0, now_ms=0),
        lambda: world.store.topics.retry("news", after=0, now_ms=0),
    ):
        with pytest.raises(NotFound, match="news"), world.store.write():
            steer()


def test_a_cancelled_batch_counts_each_mail_once(world: World) -> None:
    batch = world.batch(message(*people(6), topic_id="a"), message(*people(4), topic_id="b"))
    with world.store.write():
        world.store.batches.accept(batch, max_queued=100)
    other = world.accept(*people(2))
    world.record(world.claim(calls=2))
    world.claim(calls=3)
    with world.store.write():
        counted = world.store.mails.cancel_batch(batch.batch_id, now_ms=world.now_ms)
    assert counted == (5, 3, 2)
    assert world.claim_ids() == other
    with pytest.raises(NotFound), world.store.write():
        world.store.mails.cancel_batch("ffff", now_ms=world.now_ms)


def test_a_rescheduled_mail_goes_at_its_new_time(world: World) -> None:
    sooner, later = world.accept("a@x.org", "b@x.org", due_in_s=60)
    reschedule(world, sooner, 10)
    reschedule(world, later, 600)
    world.pass_s(60)
    assert world.claim_ids() == [sooner]
    reschedule(world, later, -5)
    assert world.claim_ids() == [later]
    assert world.said(later) == ["rescheduled", "rescheduled"]
    with pytest.raises(Conflict, match="sending"):
        reschedule(world, later, 10)


def test_a_rescheduled_mail_of_a_paused_topic_still_waits_for_it(world: World) -> None:
    (request_id,) = world.accept("a@x.org", topic_id="news")
    with world.store.write():
        world.store.topics.pause("news")
    world.claim()
    reschedule(world, request_id, 0)
    assert world.claim() == []
    assert world.state(request_id) is State.PENDING


def test_failed_mail_of_a_topic_is_tried_again(world: World) -> None:
    ids = world.accept(*people(5), topic_id="news")
    world.record(world.claim(calls=3), OutcomeKind.REJECTED, "550 no")
    world.record(world.claim(calls=1))
    assert retry(world, "news") == 3
    assert retry(world, "news") == 0
    assert sorted(world.claim_ids()) == sorted([*ids[:3], ids[4]])
    assert world.said(ids[0]) == ["failed", "resent"]


def test_a_retried_mail_is_as_young_as_its_retry(world: World) -> None:
    mail = world.accept_and_claim(topic_id="news")
    world.pass_s(3 * 86400)
    world.record(mail, OutcomeKind.DEFERRED)
    assert world.state(mail.request_id) is State.FAILED
    retry(world, "news")
    (mail,) = world.claim()
    world.record(mail, OutcomeKind.DEFERRED)
    assert world.state(mail.request_id) is State.PENDING


def test_a_retry_ends_an_older_wish_to_cancel(world: World) -> None:
    mail = world.accept_and_claim(topic_id="news")
    cancel(world, mail.request_id)
    world.record(mail, OutcomeKind.REJECTED)
    retry(world, "news")
    (mail,) = world.claim()
    world.record(mail, OutcomeKind.THROTTLED)
    assert world.claim_ids() == [mail.request_id]


def test_topics_are_listed_by_name(world: World) -> None:
    for topic_id in ("b", "a", None, "c/d"):
        world.accept("a@x.org", topic_id=topic_id)
    names = [topic.topic_id for topic in world.store.topics.list(after="", limit=10)]
    assert names == ["a", "b", "c/d"]
    assert [t.topic_id for t in world.store.topics.list(after="a", limit=1)] == ["b"]


def test_mails_are_listed_by_what_they_have_in_common(world: World) -> None:
    news = world.accept("a@x.org", "b@x.org", topic_id="news")
    alerts = world.accept("a@x.org", topic_id="alerts")
    world.record(world.claim(calls=1))
    listed = world.store.mails.list
    assert [m.request_id for m in listed(topic_id="news")] == news
    assert [m.request_id for m in listed(recipient="a@x.org")] == [news[0], *alerts]
    assert [m.request_id for m in listed(recipient="a@x.org", topic_id="alerts")] == alerts
    assert [m.request_id for m in listed(state=State.SENT)] == [news[0]]
    assert [m.request_id for m in listed(batch_id="1", state=State.PENDING)] == [news[1]]
    assert [m.request_id for m in listed(batch_id="1", topic_id="alerts")] == []
    assert [m.request_id for m in listed(after=1, limit=1)] == [news[1]]
    assert listed(batch_id="ffff") == []
