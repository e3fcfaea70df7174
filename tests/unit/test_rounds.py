"""Rounds: where calls take no time, a session is given several to make one after the other."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator

import pytest

from mailer.calls import Call
from mailer.errors import TransportUnreachable
from mailer.pacing import Slot
from tests.unit.desk import Desk, claimed, compose
from tests.unit.memory import Memory, accepted, raising
from tests.waiting import until


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Keeps whoever waits for it; let go when the test ends."""
    event = threading.Event()
    yield event
    event.set()


class FastDesk(Desk):
    """Its calls have taken no time so far, so that a session is given several at once."""

    def __init__(self, transport: Memory) -> None:
        super().__init__(transport)
        gate = threading.Event()
        transport.sends = lambda mails: gate.wait() and accepted(mails)
        for number in range(transport.max_in_flight):
            self.grow()
            until(lambda: not self.sessions._opening)
            while self.sessions.idle:
                self.start(f"m-{number}")
        gate.set()
        transport.sends = accepted
        until(lambda: not self.sessions.running())
        for number in range(100):
            self.start(f"m-{number}")
            until(lambda: not self.sessions.running())
        assert self.sessions.calls_a_round > 5
        transport.sent.clear()
        self.finished = queue.SimpleQueue()
        self.sessions._finished = self.finished.put

    def start_all(self, *request_ids: str, lasts_us: int = 10**7) -> list[Call]:
        at_us = self.clock.mono_us()
        slot = Slot(at_us, at_us + lasts_us, 1, (at_us,))
        calls = [Call(7, slot, (claimed(request_id),), compose) for request_id in request_ids]
        self.sessions.start(calls)
        return calls


def test_a_session_makes_several_calls_one_after_the_other() -> None:
    desk = FastDesk(Memory(max_in_flight=1))
    calls = desk.start_all("m-100", "m-101", "m-102")
    assert [desk.end().call for _ in calls] == calls
    assert desk.sessions.idle == 1


def test_a_session_is_given_one_call_where_they_have_taken_long(gate: threading.Event) -> None:
    desk = FastDesk(Memory())
    desk.transport.sends = lambda mails: gate.wait(0.03) or accepted(mails)
    desk.start("m-100")
    desk.end()
    assert desk.sessions.calls_a_round == 1


def test_bulk_mail_makes_longer_rounds_before_it_takes_the_sessions_that_are_left_free(
    gate: threading.Event,
) -> None:
    desk = FastDesk(Memory(max_in_flight=6))
    desk.transport.sends = lambda mails: gate.wait() and accepted(mails)
    assert (desk.sessions.idle, desk.sessions.idle_for_bulk) == (6, 4)
    desk.start_all(*(f"m-{number}" for number in range(100, 112)))
    assert (desk.sessions.idle, len(desk.sessions.running())) == (2, 12)


def test_what_waits_behind_a_call_that_does_not_end_is_given_back(gate: threading.Event) -> None:
    desk = FastDesk(Memory(max_in_flight=1))
    desk.transport.sends = lambda mails: gate.wait() and accepted(mails)
    first, *behind = desk.start_all("m-100", "m-101", "m-102", lasts_us=200_000)
    until(lambda: "m-100" in desk.transport.sent)
    desk.sessions.give_up_late()
    assert desk.sessions.running() == [first, *behind], "it is not late yet"
    desk.clock.ahead_us += 300_000
    desk.sessions.give_up_late()
    assert [desk.end().outcomes for _ in behind] == [None, None]
    assert desk.sessions.running() == [first]
    assert desk.sessions.idle == 0, "the session is in its call"
    gate.set()
    assert desk.end().call is first
    assert desk.sessions.idle == 1


def test_what_waits_behind_a_call_that_finds_its_session_broken_is_given_back() -> None:
    desk = FastDesk(Memory(max_in_flight=1))
    desk.transport.sends = raising(TransportUnreachable("gone"))
    calls = desk.start_all("m-100", "m-101", "m-102")
    assert [desk.end().outcomes for _ in calls] == [None] * 3
    assert desk.transport.sent == ["m-100"]
    assert desk.sessions.running() == []
