"""A sender on a real store, with real threads and a transport in memory."""

from __future__ import annotations

import resource
import threading
from collections.abc import Iterator, Sequence

import pytest

from mailer import sender_process
from mailer.clock import SystemClock
from mailer.errors import StoreUnavailable, TransportUnreachable
from mailer.hookspecs import Envelope, Outcome
from mailer.vocabulary import Lane, State
from tests.store.world import people
from tests.unit.memory import Memory, Post, Sends, accepted, raising, work
from tests.waiting import until

WITHIN_S = 10.0


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def slow(gate: threading.Event) -> Sends:
    return lambda mails: gate.wait() and accepted(mails)


def test_a_mail_goes_its_whole_way(post: Post) -> None:
    ids = post.world.accept(*people(5), topic_id="news")
    transport = Memory()
    sender = post.sender(transport)
    post.step_until(sender, ids, State.SENT)
    assert sorted(transport.sent) == ids
    assert sender.at_rest
    assert post.world.counters("news") == {"total": 5, "sent": 5}


def test_a_slot_is_noted_as_begun_before_its_transport_is_called(post: Post) -> None:
    noted: list[int] = []

    def sends(mails: Sequence[Envelope]) -> list[Outcome]:
        noted.append(len(post.begun))
        return accepted(mails)

    ids = post.world.accept(*people(5))
    sender = post.sender(Memory(sends=sends), rate="unlimited")
    post.step_until(sender, ids, State.SENT)
    assert all(begun >= calls for calls, begun in enumerate(noted, 1))
    assert len(set(post.begun)) == 5, "each has a slot of its own"


def test_without_a_session_nothing_is_claimed(post: Post) -> None:
    def refuse() -> None:
        raise OSError("no route to it")

    ids = post.world.accept(*people(3))
    transport = Memory(opens=refuse)
    sender = post.sender(transport)
    for _ in range(20):
        assert sender.step() == 0
    assert post.came_back.acquire(timeout=WITHIN_S)
    assert sender.step() == 0
    assert transport.opened == 1
    assert set(post.world.states(ids)) == {State.PENDING}
    assert post.world.mail(ids[0]).attempts == 0


def test_a_provider_that_went_away_costs_no_attempt(post: Post) -> None:
    (request_id,) = post.world.accept("a@x.org")
    transport = Memory(sends=raising(TransportUnreachable("gone")))
    sender = post.sender(transport)
    post.step_until(sender, [request_id], State.SENDING)
    post.step_until(sender, [request_id], State.PENDING)
    found = post.world.mail(request_id)
    assert (found.attempts, post.world.said(request_id)) == (0, [])
    transport.sends = accepted
    post.clock.ahead_us += 6_000_000
    post.step_until(sender, [request_id], State.SENT)
    assert post.world.mail(request_id).attempts == 1


@pytest.mark.parametrize("sends", [raising(ValueError()), lambda mails: [], lambda mails: [None]])
def test_what_nobody_knows_is_uncertain(post: Post, sends: Sends) -> None:
    (request_id,) = post.world.accept("a@x.org")
    sender = post.sender(Memory(sends=sends))
    post.step_until(sender, [request_id], State.UNCERTAIN)
    assert post.world.said(request_id) == ["uncertain"]


def test_bulk_mail_leaves_sessions_for_interactive_mail(post: Post, gate: threading.Event) -> None:
    post.world.accept(*people(50))
    transport = Memory(sends=slow(gate), max_in_flight=6)
    sender = post.sender(transport)
    work(sender, lambda: len(transport.sent) == 4)
    for _ in range(50):
        sender.step()
    assert len(transport.sent) == 4
    (urgent,) = post.world.accept("urgent@x.org", lane=Lane.INTERACTIVE)
    work(sender, lambda: urgent in transport.sent)


def test_a_paused_head_of_the_queue_does_not_make_a_sender_sleep(post: Post) -> None:
    post.world.accept(*people(3_000), topic_id="paused")
    with post.world.store.write():
        post.world.store.topics.pause("paused")
    (behind,) = post.world.accept("behind@x.org")
    sender = post.sender(Memory())
    work(sender, lambda: sender.sessions[0].idle)
    while post.world.state(behind) is State.PENDING:
        assert sender.step()
    post.step_until(sender, [behind], State.SENT)


def test_mail_that_ended_its_sender_goes_alone(post: Post, gate: threading.Event) -> None:
    dead = post.world.new_sender()
    poison = post.world.accept(*people(2))
    post.world.claim(sender=dead)
    post.world.rescue(dead)
    post.world.pass_s(10)
    post.world.settle()
    others = post.world.accept(*people(3))
    transport = Memory(sends=slow(gate))
    bystander = post.sender(Memory(), takes_alone=False)
    post.step_until(bystander, others, State.SENT)
    assert set(post.world.states(poison)) == {State.PENDING}
    sender = post.sender(transport)
    work(sender, lambda: transport.sent)
    others = post.world.accept(*people(3))
    for _ in range(20):
        assert sender.step() == 0
    assert transport.sent == poison[:1]
    gate.set()
    post.step_until(sender, [*poison, *others], State.SENT)


def test_stopping_gives_back_what_waits_and_records_what_is_in_flight(
    post: Post, gate: threading.Event
) -> None:
    ids = post.world.accept(*people(30))
    transport = Memory(sends=slow(gate), max_in_flight=4)
    sender = post.sender(transport, rate="50")
    work(sender, lambda: transport.sent)
    sender.stop()
    in_flight = list(transport.sent)
    gate.set()
    work(sender, lambda: sender.at_rest)
    assert transport.sent == in_flight
    by_state = {state: [i for i in ids if post.world.state(i) is state] for state in State}
    assert sorted(by_state[State.SENT]) == sorted(in_flight)
    assert len(by_state[State.PENDING]) == 30 - len(in_flight)
    assert sender.step() == 0


def test_a_call_that_is_overdue_is_given_up_as_unknown(post: Post, gate: threading.Event) -> None:
    (request_id,) = post.world.accept("a@x.org")
    transport = Memory(sends=slow(gate), call_timeout_s=60)
    sender = post.sender(transport)
    work(sender, lambda: transport.sent)
    assert sender.overdue() == []
    post.clock.ahead_us += 61_000_000
    overdue = sender.overdue()
    assert [call.mails[0].request_id for _, call in overdue] == [request_id]
    sender.give_up(overdue, "no answer")
    sender.step()
    assert post.world.state(request_id) is State.UNCERTAIN


class Waiting(sender_process.Waiting):
    """Never told to stop, never waits."""

    asked_to_stop = False

    def __init__(self) -> None:
        self.stop_deadline_us = 0

    def sleep(self, at_most_s: float) -> None:
        pass


def test_a_sender_that_hangs_takes_no_more_mail_with_it(post: Post, gate: threading.Event) -> None:
    post.world.accept("a@x.org")
    transport = Memory(sends=slow(gate), call_timeout_s=60)
    sender = post.sender(transport)
    work(sender, lambda: transport.sent)
    sender.sessions[0].grow()
    until(lambda: sender.sessions[0].idle)
    more = post.world.accept(*people(10))
    post.clock.ahead_us += 61_000_000
    status = sender_process.run(sender, post.world.store, post.clock, Waiting())
    assert status == sender_process.EXIT_HUNG
    assert set(post.world.states(more)) == {State.PENDING}


def test_without_its_reserve_of_room_nothing_is_claimed(post: Post) -> None:
    ids = post.world.accept(*people(3))
    transport = Memory()
    sender = post.sender(transport)
    post.world.store.housekeeping.give_up_reserve()
    for _ in range(20):
        assert sender.step() == 0
    assert transport.sent == []
    post.world.store.housekeeping.keep_reserve()
    post.step_until(sender, ids, State.SENT)


def test_what_has_come_back_is_kept_until_it_can_be_written(
    post: Post, gate: threading.Event
) -> None:
    ids = post.world.accept(*people(2))
    sender = post.sender(Memory(sends=slow(gate)))
    post.step_until(sender, ids, State.SENDING)
    gate.set()
    until(lambda: not sender.running())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(StoreUnavailable):
            sender.step()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not sender.at_rest
    assert set(post.world.states(ids)) == {State.SENDING}
    sender.step()
    assert set(post.world.states(ids)) == {State.SENT}
    assert sender.at_rest


def test_a_sender_with_nothing_to_do_writes_nothing(post: Post) -> None:
    sender = post.sender(Memory())
    sender.step()
    wal = post.world.path.with_name("mailer.db-wal")
    before = wal.stat().st_size
    for _ in range(50):
        assert sender.step() == 0
    assert wal.stat().st_size == before


def test_the_rate_holds_over_two_senders(post: Post) -> None:
    """Also when they take from the same queue as fast as they can."""
    at_us: list[int] = []

    def note(mails: Sequence[Envelope]) -> list[Outcome]:
        at_us.extend(SystemClock.mono_us(post.clock) for _ in mails)
        return accepted(mails)

    ids = post.world.accept(*people(60))
    senders = [post.sender(Memory(sends=note), rate="30") for _ in range(2)]

    def sent() -> bool:
        for sender in senders:
            sender.step()
        return all(state is State.SENT for state in post.world.states(ids))

    until(sent)
    at_us.sort()
    assert all(
        later - earlier > 1_000_000 for earlier, later in zip(at_us, at_us[30:], strict=False)
    )
    assert at_us[-1] - at_us[0] < 3_000_000
