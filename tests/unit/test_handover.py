"""Sessions with real threads and a transport in memory that does what a test tells it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence

import pytest

from mailer.calls import Call, Finished, deadline_us
from mailer.errors import TransportUnreachable
from mailer.hookspecs import Envelope, Outcome
from mailer.pacing import Slot
from mailer.vocabulary import OutcomeKind
from tests.unit.desk import WITHIN_S, Desk, compose
from tests.unit.memory import Memory, Sends, accepted, raising
from tests.waiting import until


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Keeps whoever waits for it; let go when the test ends."""
    event = threading.Event()
    yield event
    event.set()


def test_no_call_can_be_started_before_a_session_is_open(gate: threading.Event) -> None:
    desk = Desk(Memory(opens=gate.wait))
    assert desk.sessions.idle == 0
    desk.sessions.grow()
    assert desk.sessions.idle == 0
    gate.set()
    assert desk.heard.acquire(timeout=WITHIN_S)
    assert desk.sessions.idle == 1


def test_sessions_grow_with_what_is_to_be_done_up_to_the_transports_limit(
    gate: threading.Event,
) -> None:
    desk = Desk(Memory(sends=lambda mails: gate.wait() and accepted(mails), max_in_flight=3))
    desk.grow()
    desk.sessions.grow()
    assert desk.transport.opened == 1, "one is idle"
    for number, opened in ((1, 2), (2, 3), (3, 3)):
        desk.start(f"m-{number}")
        desk.sessions.grow()
        until(lambda idle=opened - number: desk.sessions.idle == idle)  # type: ignore[misc]
        assert desk.transport.opened == opened
    assert len(desk.sessions.running()) == 3


def test_an_unreachable_provider_is_probed_once_an_interval_and_less_and_less_often() -> None:
    probed_at_s: list[int] = []

    def refuse() -> None:
        probed_at_s.append(desk.clock.ahead_us // 1_000_000)
        raise ConnectionRefusedError("nobody there")

    desk = Desk(Memory(opens=refuse))
    for _ in range(100):
        desk.sessions.grow()
        until(lambda: not desk.sessions._opening)
        desk.clock.ahead_us += 1_000_000
    assert probed_at_s == [0, 5, 15, 35, 60, 85]
    assert desk.sessions.unreachable == "ConnectionRefusedError: nobody there"
    assert desk.sessions.idle == 0


def test_it_is_reachable_again_as_soon_as_a_session_opens() -> None:
    broken = [True]

    def open_or_not() -> None:
        if broken[0]:
            raise TransportUnreachable("being repaired")

    desk = Desk(Memory(opens=open_or_not))
    desk.grow()
    assert desk.sessions.unreachable == "being repaired"
    broken[0] = False
    desk.clock.ahead_us += 6_000_000
    desk.grow()
    assert desk.sessions.unreachable == ""
    assert desk.sessions.idle == 1


def test_a_session_found_broken_gives_its_mail_back() -> None:
    def broken(mails: Sequence[Envelope]) -> list[Outcome]:
        raise TransportUnreachable("connection reset before anything was sent")

    desk = Desk(Memory(sends=broken))
    desk.grow()
    call = desk.start("m-1")
    ended = desk.end()
    assert ended.call is call
    assert ended.outcomes is None
    assert desk.sessions.running() == []
    assert desk.sessions.idle == 0
    assert "reset" in desk.sessions.unreachable
    until(lambda: desk.transport.closed == 1)
    desk.sessions.grow()
    assert desk.transport.opened == 1, "not before the next probe is due"


@pytest.mark.parametrize(
    ("sends", "words"),
    [
        (raising(ValueError("a secret")), "the transport raised ValueError"),
        (raising(SystemExit(3)), "the transport raised SystemExit"),
        (raising(ConnectionResetError()), "the transport raised ConnectionResetError"),
        (lambda mails: [], "the transport gave 0 outcomes for 2 mails"),
        (lambda mails: accepted(mails) * 2, "the transport gave 4 outcomes for 2 mails"),
        (lambda mails: None, "the transport raised TypeError"),
        (lambda mails: ["ok", "ok"], "the transport gave a str that is no outcome"),
        (lambda mails: [None] * 2, "the transport gave a NoneType that is no outcome"),
        (
            lambda mails: [Outcome("great")] * 2,  # type: ignore[arg-type]
            "the transport gave a Outcome that is no outcome",
        ),
    ],
)
def test_what_a_transport_should_not_do_leaves_the_outcome_unknown(
    sends: Sends, words: str
) -> None:
    desk = Desk(Memory(sends=sends, batch_size=2))
    desk.grow()
    desk.start("m-1", "m-2")
    assert desk.outcomes() == [(OutcomeKind.UNKNOWN, words)] * 2
    desk.transport.sends = accepted
    desk.start("m-3")
    assert desk.outcomes() == [(OutcomeKind.ACCEPTED, "")], "the session serves on"


def test_one_outcome_that_is_none_harms_no_other() -> None:
    good = Outcome(OutcomeKind.ACCEPTED, provider_id="p")
    desk = Desk(Memory(sends=lambda mails: [good, None, good], batch_size=3))
    desk.grow()
    desk.start("m-1", "m-2", "m-3")
    kinds = [kind for kind, _ in desk.outcomes()]
    assert kinds == [OutcomeKind.ACCEPTED, OutcomeKind.UNKNOWN, OutcomeKind.ACCEPTED]


def test_outcomes_are_made_fit_to_be_written_down() -> None:
    odd = Outcome("deferred", "half \udce9", 17, float("inf"))  # type: ignore[arg-type]
    empty = Outcome(OutcomeKind.ACCEPTED, None, None, float("nan"))  # type: ignore[arg-type]
    desk = Desk(Memory(sends=lambda mails: [odd, empty], batch_size=2))
    desk.grow()
    desk.start("m-1", "m-2")
    assert desk.end().outcomes == [
        Outcome(OutcomeKind.DEFERRED, "half ?", "17"),
        Outcome(OutcomeKind.ACCEPTED),
    ]


def test_a_mail_that_can_not_be_composed_is_rejected_and_harms_no_other() -> None:
    desk = Desk(Memory(batch_size=3))
    desk.grow()
    desk.start("m-1", "bad-2", "m-3")
    outcomes = desk.outcomes()
    assert outcomes[0] == outcomes[2] == (OutcomeKind.ACCEPTED, "")
    assert outcomes[1] == (OutcomeKind.REJECTED, "the mail can't be composed: ValueError")
    assert desk.transport.sent == ["m-1", "m-3"]


def test_a_call_that_holds_nothing_to_send_does_not_call_the_transport() -> None:
    desk = Desk(Memory())
    desk.grow()
    desk.start("bad-1")
    assert [kind for kind, _ in desk.outcomes()] == [OutcomeKind.REJECTED]
    assert desk.transport.sent == []


def test_a_call_waits_for_its_slot_and_tells_when_it_used_it() -> None:
    desk = Desk(Memory())
    desk.grow()
    call = desk.start("m-1", early_us=50_000)
    desk.end()
    ((began, at_us),) = desk.began
    assert began is call
    assert call.slot.at_us <= at_us <= call.slot.until_us


def test_a_slot_that_has_passed_is_given_up_and_its_mail_given_back() -> None:
    desk = Desk(Memory())
    desk.grow()
    call = desk.start("m-1", early_us=-1_000, lasts_us=999)
    assert desk.end().outcomes is None
    assert desk.began == [(call, 0)]
    assert desk.transport.sent == []


def test_stopping_gives_up_what_waits_and_lets_what_is_in_flight_end(
    gate: threading.Event,
) -> None:
    inside = threading.Event()

    def slow(mails: Sequence[Envelope]) -> list[Outcome]:
        inside.set()
        gate.wait()
        return accepted(mails)

    desk = Desk(Memory(sends=slow, max_in_flight=2))
    desk.grow()
    in_flight = desk.start("m-1")
    assert inside.wait(WITHIN_S)
    desk.grow()
    waiting = desk.start("m-2", early_us=60_000_000)
    started = time.monotonic()
    desk.sessions.stop()
    ended = desk.end()
    assert time.monotonic() - started < WITHIN_S
    assert (ended.call, ended.outcomes) == (waiting, None)
    gate.set()
    ended = desk.end()
    assert (ended.call, ended.outcomes) == (in_flight, [Outcome(OutcomeKind.ACCEPTED)])
    late = desk.start("m-3")
    ended = desk.end()
    assert (ended.call, ended.outcomes) == (late, None)
    assert desk.transport.sent == ["m-1"]


def test_a_call_for_which_no_session_is_left_is_served_by_a_new_one() -> None:
    desk = Desk(Memory())
    desk.start("m-1")
    assert desk.outcomes() == [(OutcomeKind.ACCEPTED, "")]
    assert desk.transport.opened == 1


def test_a_call_for_which_no_session_can_be_opened_is_given_back() -> None:
    def refuse() -> None:
        raise OSError("no route")

    desk = Desk(Memory(opens=refuse))
    call = desk.start("m-1")
    assert desk.end().outcomes is None
    assert desk.began == [(call, 0)]
    assert desk.sessions.running() == []


def test_a_transport_that_can_not_even_open_properly_is_unreachable() -> None:
    def fail() -> None:
        raise SystemExit("a plugin gone wrong")

    desk = Desk(Memory(opens=fail))
    desk.grow()
    assert "SystemExit" in desk.sessions.unreachable
    assert desk.sessions.idle == 0


def test_calls_end_in_as_many_threads_as_there_are_sessions() -> None:
    desk = Desk(Memory(max_in_flight=4))
    desk.grow()
    for number in range(100):
        desk.start(f"m-{number}")
    ended = {desk.end().call.mails[0].request_id for _ in range(100)}
    assert ended == {f"m-{number}" for number in range(100)}
    assert len(desk.transport.sent) == 100
    assert desk.sessions.running() == []


def test_a_call_that_does_not_run_any_more_has_come_back(gate: threading.Event) -> None:
    """Else a sender that stops might look between the two, and think that all is written down."""
    desk = Desk(Memory())
    coming_back = threading.Event()
    seen: list[tuple[list[Call], int]] = []

    def come_back(ended: Finished) -> None:
        coming_back.set()
        gate.wait()
        desk.finished.put(ended)

    desk.sessions._finished = come_back
    desk.grow()
    desk.start("m-1")
    assert coming_back.wait(WITHIN_S)
    looks = threading.Thread(
        target=lambda: seen.append((desk.sessions.running(), desk.finished.qsize()))
    )
    looks.start()
    looks.join(0.1)
    gate.set()
    looks.join(WITHIN_S)
    assert seen == [([], 1)]


def test_a_call_is_overdue_after_its_slot_and_its_transports_time() -> None:
    desk = Desk(Memory(call_timeout_s=2.5))
    call = Call(1, Slot(1_000, 2_000, 1, (0,)), (), compose)
    assert deadline_us(call, desk.transport) == 2_502_000
