"""A sender is dead: what it had in flight is uncertain, what it had not begun waits again."""

from __future__ import annotations

from typing import Any

import pytest

from mailer.store.senders import Sender
from mailer.vocabulary import OutcomeKind, State, UncertainPolicy, WaitsFor
from tests.store.world import World, people, rate


def crash(world: World, request_id: str, **claim: Any) -> None:
    """A sender takes this mail and dies with it; then the policy decides."""
    sender = world.new_sender()
    assert world.claim_ids(sender=sender, **claim) == [request_id]
    assert world.rescue(sender) == (1, 0)
    world.pass_s(10)
    assert world.settle() == 1


def test_what_may_have_been_handed_over_is_uncertain(world: World) -> None:
    sender = world.new_sender()
    ids = world.accept(*people(3))
    mails = world.claim(sender=sender)
    world.pass_s(1)
    assert world.rescue(sender) == (3, 0)
    assert set(world.states(ids)) == {State.UNCERTAIN}
    assert world.claim() == []
    (attempt,) = world.store.mails.attempts(mails[0].id)
    assert attempt.outcome == OutcomeKind.UNKNOWN


def test_what_had_not_begun_waits_again_unharmed(world: World) -> None:
    sender = world.new_sender()
    world.accept(*people(200))
    leases = world.claim_leases(sender=sender, limit=rate(500), calls=200)
    begun_us = leases[0].slot.at_us
    not_begun = [m for lease in leases if lease.slot.at_us > begun_us for m in lease.mails]
    begun = [m for lease in leases if lease.slot.at_us <= begun_us for m in lease.mails]
    assert not_begun
    assert world.rescue(sender, begun_us=begun_us) == (len(begun), len(not_begun))
    again = world.mail(not_begun[0].request_id)
    assert (again.state, again.waits_for, again.attempts) == (State.PENDING, WaitsFor.TURN, 0)
    assert world.said(not_begun[0].request_id) == []


def test_only_the_dead_senders_mail_is_touched(world: World) -> None:
    ours, theirs = world.new_sender(), world.new_sender()
    ids = world.accept(*people(2))
    world.claim(sender=ours, calls=1)
    world.claim(sender=theirs, calls=1)
    world.rescue(ours)
    assert world.states(ids) == [State.UNCERTAIN, State.SENDING]
    assert world.rescue(ours) == (0, 0)


def test_what_was_recorded_before_the_death_is_not_rescued(world: World) -> None:
    sender = world.new_sender()
    world.accept(*people(4))
    for mail, kind in zip(world.claim(sender=sender), OutcomeKind, strict=False):
        world.record(mail, kind)
    assert world.rescue(sender) == (0, 0)


def test_a_sender_that_still_holds_mail_stays_on_record(world: World) -> None:
    """Else nobody would ever look for the mail again."""
    sender = world.new_sender()
    world.accept("a@x.org")
    world.claim(sender=sender)
    with world.store.write():
        world.store.senders.remove(sender)
    assert [one.id for one in world.store.senders.all()] == [sender]
    assert world.rescue(sender) == (1, 0)
    with world.store.write():
        world.store.senders.remove(sender)
    assert world.store.senders.all() == []


def test_after_a_boot_everything_in_flight_is_uncertain(world: World) -> None:
    """The instants on record belong to the clock of the boot before, and prove nothing now."""
    sender = world.new_sender()
    (request_id,) = world.accept("a@x.org")
    world.claim(sender=sender, limit=rate(500))
    world.now_us = 1_000_000
    with world.store.write():
        assert world.store.senders.adopt_boot("another boot")
        world.store.slots.carry_over(world.now_us)
    assert world.rescue(sender) == (1, 0)
    assert world.state(request_id) is State.UNCERTAIN


def test_after_a_boot_no_process_is_taken_for_a_sender_of_the_boot_before(world: World) -> None:
    """Boots are alike: the same pid may have started at the same tick."""
    with world.store.write():
        world.store.senders.adopt_boot("first")
        sender = world.store.senders.register(42, 1234, 10**12)
        assert not world.store.senders.adopt_boot("first")
    assert world.store.senders.all() == [Sender(sender, 42, 1234, 10**12)]
    with world.store.write():
        assert world.store.senders.adopt_boot("second")
    (found,) = world.store.senders.all()
    assert found.pid_started != 1234
    assert found.pid_started != 0  # what is told of a process that is not there


def test_after_a_boot_the_rate_holds(world: World) -> None:
    world.accept(*people(100))
    used = sum(len(lease.mails) for lease in world.claim_leases(limit=rate(10), calls=1))
    for _ in range(9):
        world.pass_s(0.1)
        used += sum(len(lease.mails) for lease in world.claim_leases(limit=rate(10), calls=1))
    assert used == 10
    world.now_us = 1_000
    with world.store.write():
        world.store.slots.carry_over(world.now_us)
    assert world.claim_leases(limit=rate(10)) == []
    world.now_us += 1_006_000
    assert world.claim_leases(limit=rate(10)) != []


def test_a_mail_that_ends_its_sender_each_time_is_given_up(world: World) -> None:
    (poison,) = world.accept("a@x.org")
    crash(world, poison)
    assert world.mail(poison).waits_for is WaitsFor.ALONE
    crash(world, poison, alone=True)
    crash(world, poison, alone=True)
    assert world.state(poison) is State.FAILED
    assert "3 times" in (world.mail(poison).detail or "")
    assert world.claim(alone=True) == []


def test_an_innocent_mail_in_the_same_call_is_sent(world: World) -> None:
    sender = world.new_sender()
    ids = world.accept(*people(2))
    world.claim(sender=sender)
    world.rescue(sender)
    world.pass_s(10)
    world.settle()
    for request_id in ids:
        (mail,) = world.claim(alone=True)
        assert mail.request_id == request_id
        world.record(mail)
    assert set(world.states(ids)) == {State.SENT}


@pytest.mark.parametrize("policy", list(UncertainPolicy))
def test_the_policy_decides_what_a_crash_left(world: World, policy: UncertainPolicy) -> None:
    world.rules = world.rules.__class__(10**9, 10**6, policy)
    world.store = world.twin()
    (request_id,) = world.accept("a@x.org")
    crash(world, request_id)
    resent = policy is UncertainPolicy.RESEND
    assert world.state(request_id) is (State.PENDING if resent else State.FAILED)


def test_a_mail_cancelled_in_flight_is_cancelled_when_its_sender_dies_early(world: World) -> None:
    sender = world.new_sender()
    (request_id,) = world.accept("a@x.org")
    world.claim(sender=sender, limit=rate(500))
    with world.store.write():
        world.store.mails.cancel(request_id, now_ms=world.now_ms)
    assert world.rescue(sender, begun_us=world.now_us - 1) == (0, 1)
    assert world.state(request_id) is State.CANCELLED


def test_a_rescheduled_mail_that_ended_its_sender_is_still_sent_alone(world: World) -> None:
    (request_id,) = world.accept("a@x.org")
    crash(world, request_id)
    with world.store.write():
        world.store.mails.reschedule(request_id, world.now_ms, now_ms=world.now_ms)
    assert world.claim() == []
    assert world.claim_ids(alone=True) == [request_id]
