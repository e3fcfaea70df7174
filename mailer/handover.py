"""Handing over: one transport's sessions in a sender process, a thread for each.

A session is opened before any slot of the rate is taken for it, so that none is spent waiting for
a connection. Each thread waits for its call's slot, gives the call up when the slot has passed,
and reports what came of it. Once the open ones have found that the provider can't be reached, one
at a time is tried, every few seconds, and no mail is claimed.
"""

from __future__ import annotations

import logging
import math
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from mailer.clock import Clock
from mailer.errors import TransportHalted, TransportUnreachable
from mailer.hookspecs import Envelope, Outcome, Session, Transport
from mailer.mail import ClaimedMail
from mailer.pacing import Slot
from mailer.reporting import unexpected
from mailer.vocabulary import OutcomeKind

log = logging.getLogger("mailer.handover")

PROBE_US: Final = 5_000_000
LONGEST_PROBE_US: Final = 25_000_000
IDLE_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Call:
    """Mails to be handed over together, and the slot to do it in."""

    slot_id: int
    slot: Slot
    mails: tuple[ClaimedMail, ...]
    compose: Callable[[ClaimedMail], Envelope]
    trial: bool = False
    """Finds out for all whether the provider takes mail again."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A call that has ended. `outcomes` is None when nothing was handed over."""

    transport: str
    call: Call
    outcomes: Sequence[Outcome] | None
    started_at_ms: int
    ended_at_ms: int


class Sessions:
    """The open sessions of one transport. All methods are for the sender's main thread.

    `began(call, at_us)` is called from a session's thread when its slot is used, with 0 when the
    slot was given up; `finished` when the call has ended.
    """

    def __init__(
        self,
        name: str,
        transport: Transport,
        clock: Clock,
        *,
        began: Callable[[Call, int], None],
        finished: Callable[[Finished], None],
        opened: Callable[[], None],
        probe_us: int = PROBE_US,
    ) -> None:
        self.name = name
        self.transport = transport
        self.unreachable = ""
        """Why the last session could not be opened; empty when it could."""
        self.halted = False
        """Whether that is for somebody to mend."""
        self.reached = False
        """A session was opened that nobody has looked at yet."""
        self._clock = clock
        self._began = began
        self._finished = finished
        self._tell_opened = opened
        self._probe_us = probe_us
        self._calls: queue.SimpleQueue[Call] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._open = 0
        self._opening = 0
        self._running: dict[int, Call] = {}
        self._retry_at_us = 0
        self._refused = 0
        self._stopping = threading.Event()

    @property
    def idle(self) -> int:
        """Calls that could be started now."""
        with self._lock:
            return self._open - len(self._running)

    def running(self) -> list[Call]:
        """Calls started and not ended."""
        with self._lock:
            return list(self._running.values())

    def grow(self) -> None:
        """Open more sessions if all are busy: as many again, or one while none has succeeded."""
        with self._lock:
            if self._opening or self._open > len(self._running):
                return
            room = self.transport.max_in_flight - self._open
            wanted = min(room, max(1, self._open))
            if self._clock.mono_us() < self._retry_at_us:
                return
            self._opening += wanted
        for _ in range(wanted):
            self._begin_session()

    def start(self, call: Call) -> None:
        """Hand a call to an idle session, or to a new one if the last has just been let go."""
        with self._lock:
            self._running[id(call)] = call
            missing = self._open + self._opening < len(self._running)
            self._opening += missing
        self._calls.put(call)
        if missing:
            self._begin_session()

    def _begin_session(self) -> None:
        threading.Thread(target=self._session_thread, daemon=True).start()

    def stop(self) -> None:
        """Calls whose slot has not come are given up; those in flight go on to their end."""
        self._stopping.set()

    def _session_thread(self) -> None:
        try:
            session = self.transport.open()
        except TransportUnreachable as error:
            self._opened(str(error) or "unreachable", halted=isinstance(error, TransportHalted))
            return
        except BaseException as error:  # a plugin may raise anything
            self._opened(f"{type(error).__name__}: {error}")
            return
        self._opened("")
        try:
            self._serve(session)
        finally:
            session.close()

    def _opened(self, problem: str, *, halted: bool = False) -> None:
        with self._lock:
            self._opening -= 1
            self._note(problem, halted=halted)
            if not problem:
                self._open += 1
                self.reached = True
        self._give_back_unserved()
        self._tell_opened()

    def _give_back_unserved(self) -> None:
        """Calls that no session is left for were not handed over."""
        while True:
            with self._lock:
                if len(self._running) <= self._open + self._opening:
                    return
            try:
                call = self._calls.get_nowait()
            except queue.Empty:
                return
            self._began(call, 0)
            self._end(call, None, self._clock.wall_ms())

    def _note(self, problem: str, *, halted: bool) -> None:
        """Whether the provider could be reached; if not, it is tried less and less often.

        Sessions that break together are one refusal.
        """
        now_us = self._clock.mono_us()
        self.unreachable, self.halted = problem, halted
        if not problem:
            self._refused = 0
        elif now_us >= self._retry_at_us:
            self._refused += 1
            wait_us = min(LONGEST_PROBE_US, self._probe_us * 2 ** min(self._refused - 1, 8))
            self._retry_at_us = now_us + wait_us

    def _serve(self, session: Session) -> None:
        """Make one call after the other until there is none for a while, or the session breaks."""
        usable = True
        while usable:
            try:
                call = self._calls.get(timeout=IDLE_S)
            except queue.Empty:
                if self._leave():
                    return
            else:
                usable = self._make(call, session)

    def _leave(self) -> bool:
        """End this thread unless a call was put in the queue meanwhile."""
        with self._lock:
            if self._open <= len(self._running):
                return False
            self._open -= 1
            return True

    def _make(self, call: Call, session: Session) -> bool:
        """Make a call at its slot's instant; whether the session can be used again."""
        outcomes: Sequence[Outcome] | None = None
        problem, halted = "", False
        envelopes, refused = _composed(call)
        started_us = self._wait_for(call.slot)
        started_at_ms = self._clock.wall_ms()
        self._began(call, started_us)
        if started_us:
            try:
                outcomes = _with_refused(call, refused, self._send(session, envelopes))
            except TransportUnreachable as error:
                problem, halted = str(error) or "unreachable", isinstance(error, TransportHalted)
        if problem:
            with self._lock:
                self._open -= 1
                self._note(problem, halted=halted)
        self._end(call, outcomes, started_at_ms)
        return not problem

    def _end(self, call: Call, outcomes: Sequence[Outcome] | None, started_at_ms: int) -> None:
        ended = Finished(self.name, call, outcomes, started_at_ms, self._clock.wall_ms())
        with self._lock:  # together: what does not run any more has come back
            self._running.pop(id(call), None)
            self._finished(ended)

    def _wait_for(self, slot: Slot) -> int:
        """The instant of hand-over; 0 when it must not be: too late, or stopping."""
        while (early_us := slot.at_us - self._clock.mono_us()) > 0:
            if self._stopping.wait(early_us / 1_000_000):
                return 0
        now_us = self._clock.mono_us()
        return now_us if now_us <= slot.until_us and not self._stopping.is_set() else 0

    def _send(self, session: Session, envelopes: list[Envelope]) -> list[Outcome]:
        """Call the plugin; what it should not do becomes `unknown`."""
        if not envelopes:
            return []
        try:
            outcomes = [_sound(outcome) for outcome in session.send(envelopes)]
        except TransportUnreachable:
            raise
        except BaseException as error:  # even SystemExit must not leave a call without an end
            unexpected(error, f"transport {self.name}")
            why = f"the transport raised {type(error).__name__}"
            return [Outcome(OutcomeKind.UNKNOWN, why)] * len(envelopes)
        if len(outcomes) != len(envelopes):
            why = f"the transport gave {len(outcomes)} outcomes for {len(envelopes)} mails"
            log.error("%s: %s", self.name, why)
            return [Outcome(OutcomeKind.UNKNOWN, why)] * len(envelopes)
        return outcomes


def _sound(outcome: Any) -> Outcome:
    """The outcome as it can be written down: a plugin may give anything."""
    try:
        kind = OutcomeKind(outcome.kind)
        wait_s = float(outcome.retry_after_s or 0.0)
        detail, provider_id = (_text(words) for words in (outcome.detail, outcome.provider_id))
    except (AttributeError, TypeError, ValueError):
        why = f"the transport gave a {type(outcome).__name__} that is no outcome"
        return Outcome(OutcomeKind.UNKNOWN, why)
    usable = math.isfinite(wait_s) and wait_s > 0
    return Outcome(
        kind,
        detail,
        provider_id or None,
        wait_s if usable else None,
        concerns_all=bool(getattr(outcome, "concerns_all", False)),
        halts=bool(getattr(outcome, "halts", False)),
    )


def _text(words: object) -> str:
    """A provider's words without half characters, which no database takes."""
    return str(words or "").encode("utf-8", "replace").decode()


def _composed(call: Call) -> tuple[list[Envelope], dict[int, Outcome]]:
    """The call's envelopes, and by mail id those that can't be composed."""
    envelopes = []
    refused = {}
    for mail in call.mails:
        try:
            envelopes.append(call.compose(mail))
        except Exception as error:
            why = f"the mail can't be composed: {type(error).__name__}"
            refused[mail.id] = Outcome(OutcomeKind.REJECTED, why)
    return envelopes, refused


def _with_refused(
    call: Call, refused: dict[int, Outcome], outcomes: Sequence[Outcome]
) -> list[Outcome]:
    """One outcome for each mail, in the call's order."""
    of_sent = iter(outcomes)
    return [refused[mail.id] if mail.id in refused else next(of_sent) for mail in call.mails]


def deadline_us(call: Call, transport: Transport) -> int:
    """When a call has lasted longer than its transport promised."""
    return call.slot.until_us + int(transport.call_timeout_s * 1_000_000)
