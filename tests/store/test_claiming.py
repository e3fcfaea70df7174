"""Claiming: the order, the room, what is moved aside, and that nobody else gets the same mail."""

from __future__ import annotations

import threading
from itertools import chain, pairwise

import pytest

from mailer.store.queue import MOVED_A_CLAIM
from mailer.vocabulary import Lane, OutcomeKind, State, SuppressionReason, WaitsFor
from tests.store.world import DAY_MS, World, ask, message, people, rate


def suppress(world: World, email: str, scope: str = "") -> None:
    with world.store.write():
        world.store.suppressions.add(
            email, scope=scope, reason=SuppressionReason.MANUAL, detail="", now_ms=world.now_ms
        )


def pause(world: World, topic_id: str) -> None:
    with world.store.write():
        world.store.topics.pause(topic_id)


def resume(world: World, topic_id: str) -> int:
    """In as many steps as it takes; how many those were."""
    with world.store.write():
        world.store.topics.resume(topic_id)
    after, steps = 0, 0
    while after or not steps:
        with world.store.write():
            after = world.store.topics.unpark(topic_id, after=after, now_ms=world.now_ms)
        steps += 1
    return steps


def test_interactive_mail_goes_first_then_due_time_then_id(world: World) -> None:
    (due_later,) = world.accept("a@x.org", due_in_s=20)
    (due_sooner,) = world.accept("b@x.org", due_in_s=10)
    (now_first, now_second) = world.accept("c@x.org", "d@x.org")
    (interactive,) = world.accept("e@x.org", lane=Lane.INTERACTIVE, due_in_s=30)
    world.pass_s(60)
    expected = [interactive, now_first, now_second, due_sooner, due_later]
    assert world.claim_ids() == expected


def test_scheduled_mail_goes_when_it_is_due_and_not_before(world: World) -> None:
    (request_id,) = world.accept("a@x.org", due_in_s=10)
    assert world.store.queue.next_due_at_ms("post") == world.now_ms + 10_000
    world.now_ms += 9_999
    assert not world.store.queue.head(["post"], world.now_ms)
    assert world.claim() == []
    world.now_ms += 1
    assert world.store.queue.head(["post"], world.now_ms)
    assert world.claim_ids() == [request_id]


@pytest.mark.parametrize("wall_ms", [0, 1, -DAY_MS, -1000], ids=["1970", "1 ms", "-1 d", "-1 s"])
def test_a_wall_clock_set_back_keeps_no_immediate_mail(world: World, wall_ms: int) -> None:
    ids = world.accept(*people(2))
    world.now_ms = wall_ms if wall_ms >= 0 else world.now_ms + wall_ms
    assert world.store.queue.head(["post"], world.now_ms)
    assert world.claim_ids() == ids


def test_a_claim_takes_only_its_own_transports_mail(world: World) -> None:
    world.accept("a@x.org", transport="other")
    assert not world.store.queue.head(["post"], world.now_ms)
    assert world.claim() == []
    assert len(world.claim(transport="other")) == 1


def test_a_claim_takes_no_more_than_its_calls_hold(world: World) -> None:
    world.accept(*people(20))
    leases = world.claim_leases(calls=3, batch_size=5)
    assert [len(lease.mails) for lease in leases] == [5, 5, 5]
    assert len(world.claim(calls=100)) == 5


def test_a_claim_starts_no_more_calls_than_it_asked_for(world: World) -> None:
    """At 100/s in batches of 50 a slot holds 9 recipients, and each slot is a call of its own."""
    world.accept(*people(500))
    for _ in range(20):
        assert len(world.claim_leases(calls=1, batch_size=50, limit=rate(100))) <= 1
        world.pass_s(0.2)


def test_a_claim_takes_no_more_than_the_rate_allows(world: World) -> None:
    world.accept(*people(100))
    first = world.claim_leases(limit=rate(10))
    assert 1 <= sum(len(lease.mails) for lease in first) <= 10
    taken = list(first)
    for _ in range(60):
        world.pass_s(0.05)
        taken += world.claim_leases(limit=rate(10))
    uses = sorted(lease.slot.until_us for lease in taken for _ in lease.mails)
    assert all(late - early > 1_000_000 for early, late in zip(uses, uses[10:], strict=False))
    assert 20 <= len(uses) <= 41


def test_slots_given_back_are_granted_again(world: World) -> None:
    """After a sender's death what it can't have used any more is free at once."""
    world.accept(*people(100))
    sender = world.new_sender()
    later = [
        lease
        for lease in world.claim_leases(sender=sender, limit=rate(1000), calls=200)
        if lease.slot.at_us > world.now_us
    ]
    assert later
    with world.store.write():
        world.store.slots.give_back(sender, world.now_us)
    waiting = world.rescue(sender)[1]
    assert waiting == sum(len(lease.mails) for lease in later)


def test_bulk_mail_leaves_calls_for_interactive_mail(world: World) -> None:
    world.accept(*people(20))
    assert len(world.claim(calls=10, calls_bulk=4)) == 4
    (urgent,) = world.accept("urgent@x.org", lane=Lane.INTERACTIVE)
    assert world.claim_ids(calls=6, calls_bulk=0) == [urgent]


def test_the_days_quota_bounds_a_claim_and_bulk_mail_leaves_its_reserve(world: World) -> None:
    world.accept(*people(20))
    interactive = world.accept(*people(20), lane=Lane.INTERACTIVE)
    assert world.claim_ids(quota=5, bulk_quota=3) == interactive[:5]
    assert world.claim(quota=0, bulk_quota=-2) == []
    assert world.claim_ids(quota=15, bulk_quota=1) == interactive[5:]
    assert len(world.claim(quota=9, bulk_quota=4)) == 4


def test_mail_of_a_paused_topic_waits_and_comes_back_in_its_order(world: World) -> None:
    first = world.accept(*people(3), topic_id="news")
    (other,) = world.accept("z@x.org", topic_id="alerts")
    scheduled = world.accept("y@x.org", topic_id="news", due_in_s=600)
    pause(world, "news")
    assert world.claim_ids() == [other]
    assert {world.mail(i).waits_for for i in first} == {WaitsFor.TOPIC}
    assert world.mail(scheduled[0]).waits_for is WaitsFor.DUE_TIME
    assert not world.store.queue.head(["post"], world.now_ms)
    resume(world, "news")
    assert world.claim_ids() == first


def test_pausing_stops_what_has_not_been_claimed_and_does_nothing_while_paused(
    world: World,
) -> None:
    world.accept(*people(3), topic_id="news")
    assert len(world.claim(calls=1)) == 1
    pause(world, "news")
    assert world.claim() == []
    with world.store.write():
        assert world.store.topics.unpark("news", after=0, now_ms=world.now_ms) == 0
    assert world.claim() == []


def test_a_paused_mail_that_ended_its_sender_comes_back_to_be_sent_alone(world: World) -> None:
    sender = world.new_sender()
    (request_id,) = world.accept("a@x.org", topic_id="news")
    world.claim(sender=sender)
    world.rescue(sender)
    world.pass_s(10)
    world.settle()
    pause(world, "news")
    assert world.claim(alone=True) == []
    assert world.mail(request_id).waits_for is WaitsFor.TOPIC
    resume(world, "news")
    assert world.claim() == []
    assert world.claim_ids(alone=True) == [request_id]


def test_a_long_paused_head_hides_no_other_mail(world: World) -> None:
    world.accept(*people(MOVED_A_CLAIM * 3), topic_id="paused")
    (other,) = world.accept("z@x.org", topic_id="alerts")
    pause(world, "paused")
    claims = [world.claim_ids(calls=2) for _ in range(4)]
    assert [ids for ids in claims if ids] == [[other]]


def test_resuming_takes_steps_and_forgets_nobody(world: World) -> None:
    ids = world.accept(*people(4_100), topic_id="news")
    pause(world, "news")
    while world.store.queue.head(["post"], world.now_ms):
        world.claim()
    assert resume(world, "news") == 3
    assert world.claim_ids(calls=5_000) == ids


def test_suppressed_mail_is_finished_on_the_way(world: World) -> None:
    ids = world.accept("Ann@x.org", "bob@x.org", topic_id="news/spring")
    other = world.accept("ann@X.ORG", topic_id="alerts")
    suppress(world, "ann@x.org", "news")
    assert world.claim_ids() == [ids[1], *other]
    assert world.state(ids[0]) is State.SUPPRESSED
    assert world.said(ids[0]) == ["suppressed"]
    assert world.counters("news/spring") == {"total": 2, "suppressed": 1, "sending": 1}


@pytest.mark.parametrize(
    ("scope", "topic_id", "held"),
    [
        ("", "news", True),
        ("", None, True),
        ("news", "news", True),
        ("news", "news/a/b", True),
        ("news", "newsletter", False),
        ("news", None, False),
        ("news/a", "news/a", False),
    ],
)
def test_a_suppression_holds_in_its_scope(
    world: World, scope: str, topic_id: str | None, held: bool
) -> None:
    (request_id,) = world.accept("ann@x.org", topic_id=topic_id)
    suppress(world, "ann@x.org", scope)
    world.claim()
    assert (world.state(request_id) is State.SUPPRESSED) is held


def test_expired_mail_is_given_up_on_the_way(world: World) -> None:
    (gone,) = world.accept("a@x.org", expires_at_ms=world.now_ms + 1000)
    (good,) = world.accept("b@x.org", expires_at_ms=world.now_ms + 1001)
    world.now_ms += 1000
    assert world.claim_ids() == [good]
    assert world.state(gone) is State.FAILED
    assert world.said(gone) == ["failed"]


def expire(world: World, step: int) -> int:
    with world.store.write():
        return world.store.expiry.expire(now_ms=world.now_ms, step=step)


def test_expired_mail_behind_a_pause_is_given_up_a_few_at_a_time(world: World) -> None:
    soon = world.now_ms + 1000
    ids = world.accept(*people(7), topic_id="news", expires_at_ms=soon)
    others = world.accept(*people(2), topic_id="news", expires_at_ms=soon + 5_000)
    pause(world, "news")
    world.claim()
    assert expire(world, 3) == 0
    world.now_ms += 1000
    steps = 0
    while expire(world, 3):
        steps += 1
        assert steps < 10
    assert set(world.states(ids)) == {State.FAILED}
    assert set(world.states(others)) == {State.PENDING}


def test_many_small_messages_expire_in_few_steps(world: World) -> None:
    """Each reset mail is a message of its own: a step must not be spent on each."""
    soon = world.now_ms + 1000
    ids = [world.accept(mail, expires_at_ms=soon)[0] for mail in people(40)]
    world.now_ms += 1000
    steps = 0
    while expire(world, 20):
        steps += 1
    assert set(world.states(ids)) == {State.FAILED}
    assert steps == 4


def test_messages_of_one_batch_expire_each_at_its_time(world: World) -> None:
    soon, later = world.now_ms + 1000, world.now_ms + 5_000
    batch = world.batch(
        message(*people(3), expires_at_ms=soon),
        message(*people(3), expires_at_ms=later),
        message(*people(3)),
    )
    with world.store.write():
        world.store.batches.accept(batch, max_queued=100)
    ids = [f"{batch.batch_id}-{n}" for n in range(9)]
    world.now_ms += 1000
    while expire(world, 2):
        pass
    assert world.states(ids) == [State.FAILED] * 3 + [State.PENDING] * 6
    world.now_ms += 4000
    while expire(world, 2):
        pass
    assert world.states(ids) == [State.FAILED] * 6 + [State.PENDING] * 3


def test_leased_mail_is_seen_by_nobody_else(world: World) -> None:
    world.accept(*people(10))
    twin = world.twin()
    first = world.claim_ids(calls=6)
    second = world.claim_ids(twin, calls=100, sender=2)
    assert len(first) == 6
    assert len(second) == 4
    assert not set(first) & set(second)
    assert not twin.queue.head(["post"], world.now_ms)


def test_claims_at_the_same_time_share_the_mail(world: World) -> None:
    """Four threads with a Store each, as four senders have, claim until nothing is left."""
    ids = world.accept(*people(200))
    claimed: list[list[str]] = [[], [], [], []]
    ready = threading.Barrier(4)

    def work(number: int) -> None:
        store = world.twin()
        ready.wait()
        while mails := world.claim_ids(store, calls=3, sender=number):
            claimed[number] += mails

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(chain.from_iterable(claimed)) == sorted(ids)
    assert all(a < b for part in claimed for a, b in pairwise(int(i.split("-")[1]) for i in part))


def test_mail_to_be_sent_alone_comes_singly_and_only_when_asked_for(world: World) -> None:
    sender = world.new_sender()
    world.accept(*people(3))
    world.claim(sender=sender)
    assert world.rescue(sender) == (3, 0)
    world.pass_s(10)
    assert world.settle() == 3
    assert world.claim() == []
    assert world.store.queue.has_alone("post")
    assert [len(world.claim(alone=True)) for _ in range(4)] == [1, 1, 1, 0]
    assert not world.store.queue.has_alone("post")


def test_claims_count_attempts(world: World) -> None:
    mail = world.accept_and_claim()
    assert mail.attempt == 1
    world.record(mail, OutcomeKind.DEFERRED, "later")
    world.pass_s(60)
    (again,) = world.claim()
    assert again.attempt == 2


def test_an_ask_names_what_it_wants() -> None:
    """The helper of these tests asks for as much bulk mail as for any."""
    assert ask(calls=7).calls_bulk == 7
