"""Handing over: one transport's sessions in a sender process, a thread for each.

A session is opened before any slot of the rate is taken for it, so that none is spent waiting for
a connection. Each thread waits for its call's slot, gives the call up when the slot has passed,
and reports what came of it. Where calls take no time a session is given several at once. Once the
open ones have found that the provider can't be reached, one at a time is tried, every few seconds,
and no mail is claimed.
"""

from __future__ import annotations

import math
import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from mailer.calls import Call, Finished, composed, send, with_refused
from mailer.clock import Clock
from mailer.errors import TransportHalted, TransportUnreachable
from mailer.hookspecs import Outcome, Session, Transport
from mailer.pacing import Slot

PROBE_US: Final = 5_000_000
LONGEST_PROBE_US: Final = 25_000_000
IDLE_S: Final = 30.0
FOR_INTERACTIVE: Final = 2
"""Sessions that bulk mail leaves free, so that a slow provider can't keep interactive mail out."""
AHEAD_US: Final = 20_000
"""For about so long a session may be given calls: so long interactive mail may wait behind them.

A commit costs as much CPU as making 20 calls of one mail to a transport that answers at once.
"""
LONGEST_ROUND: Final = 16
MAILS_AHEAD: Final = 400
"""In rounds of more than one call; so many a commit can record without others' waiting long."""

Round = deque[Call]
"""Calls that one session makes one after the other; those that are still to be begun."""


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
        self._waiting: queue.SimpleQueue[Round] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._open = 0
        self._opening = 0
        self._running: dict[int, Call] = {}
        self._rounds: dict[int, Round] = {}
        self._call_us = AHEAD_US
        self._retry_at_us = 0
        self._refused = 0
        self._stopping = threading.Event()

    @property
    def idle(self) -> int:
        """Sessions that have nothing to do."""
        with self._lock:
            return self._idle()

    def _idle(self) -> int:
        return max(0, self._open - len(self._rounds))

    @property
    def idle_for_bulk(self) -> int:
        """Those of them that bulk mail may have."""
        most = self.transport.max_in_flight
        kept_free = FOR_INTERACTIVE if most > 2 * FOR_INTERACTIVE else 0
        with self._lock:
            return max(0, min(self._idle(), most - kept_free - len(self._rounds)))

    @property
    def calls_a_round(self) -> int:
        """How many calls an idle session may be given, by what calls have taken so far."""
        most = MAILS_AHEAD // (self.transport.max_in_flight * self.transport.batch_size)
        return max(1, min(LONGEST_ROUND, most, AHEAD_US // max(1, self._call_us)))

    def running(self) -> list[Call]:
        """Calls given to sessions and not ended."""
        with self._lock:
            return list(self._running.values())

    def grow(self) -> None:
        """Open more sessions if all are busy: as many again, or one while none has succeeded."""
        with self._lock:
            if self._opening or self._idle():
                return
            room = self.transport.max_in_flight - self._open
            wanted = min(room, max(1, self._open))
            if self._clock.mono_us() < self._retry_at_us:
                return
            self._opening += wanted
        for _ in range(wanted):
            self._begin_session()

    def start(self, calls: Sequence[Call]) -> None:
        """Share calls out among idle sessions; to a new one if the last has just been let go.

        Bulk mail leaves some idle, and more of it makes rounds longer before it takes those.
        """
        needed = max(self.idle_for_bulk, math.ceil(len(calls) / self.calls_a_round))
        sessions = min(len(calls), max(1, min(needed, self.idle)))
        for n in range(sessions):
            self._start_round(deque(calls[n::sessions]))

    def _start_round(self, calls: Round) -> None:
        with self._lock:
            self._running.update((id(call), call) for call in calls)
            self._rounds[id(calls)] = calls
            missing = self._open + self._opening < len(self._rounds)
            self._opening += missing
        self._waiting.put(calls)
        if missing:
            self._begin_session()

    def give_up_late(self) -> None:
        """Give back what waits behind a call that lasts longer than expected, past its slot."""
        now_us = self._clock.mono_us()
        late: list[Call] = []
        with self._lock:
            for calls in self._rounds.values():
                while calls and calls[0].slot.until_us < now_us:
                    late.append(calls.popleft())
        for call in late:
            self._give_back(call)

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
                if len(self._rounds) <= self._open + self._opening:
                    return
            try:
                calls = self._waiting.get_nowait()
            except queue.Empty:
                return
            while call := self._next(calls):
                self._give_back(call, calls)

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
        """Make one round after the other until there is none for a while, or the session breaks."""
        usable = True
        while usable:
            try:
                calls = self._waiting.get(timeout=IDLE_S)
            except queue.Empty:
                if self._leave():
                    return
                continue
            while call := self._next(calls):
                if usable:
                    usable = self._make(call, calls, session)
                else:
                    self._give_back(call, calls)

    def _next(self, calls: Round) -> Call | None:
        """The round's next call, to be begun; None at its end."""
        with self._lock:
            if calls:
                return calls.popleft()
            given_up = self._rounds.pop(id(calls), None) is not None
        if given_up:  # its last calls, by another thread: nobody else tells of this session
            self._tell_opened()
        return None

    def _leave(self) -> bool:
        """End this thread unless a round was put in the queue meanwhile."""
        with self._lock:
            if not self._idle():
                return False
            self._open -= 1
            return True

    def _make(self, call: Call, behind: Round, session: Session) -> bool:
        """Make a call at its slot's instant; whether the session can be used again."""
        outcomes: Sequence[Outcome] | None = None
        problem, halted = "", False
        envelopes, refused = composed(call)
        started_us = self._wait_for(call.slot)
        started_at_ms = self._clock.wall_ms()
        self._began(call, started_us)
        if started_us:
            try:
                outcomes = with_refused(call, refused, send(self.name, session, envelopes))
            except TransportUnreachable as error:
                problem, halted = str(error) or "unreachable", isinstance(error, TransportHalted)
            took_us = self._clock.mono_us() - started_us
            self._call_us = max(took_us, (7 * self._call_us + took_us) // 8)
        if problem:
            with self._lock:
                self._open -= 1
                self._note(problem, halted=halted)
        self._end(call, outcomes, started_at_ms, behind)
        return not problem

    def _give_back(self, call: Call, behind: Round | None = None) -> None:
        """It was not handed over."""
        self._began(call, 0)
        self._end(call, None, self._clock.wall_ms(), behind)

    def _end(
        self,
        call: Call,
        outcomes: Sequence[Outcome] | None,
        started_at_ms: int,
        behind: Round | None,
    ) -> None:
        """With the last call of its round, whose thread this is, a session is idle again."""
        ended = Finished(self.name, call, outcomes, started_at_ms, self._clock.wall_ms())
        with self._lock:  # together: what does not run any more has come back
            self._running.pop(id(call), None)
            if behind is not None and not behind:
                self._rounds.pop(id(behind), None)
            self._finished(ended)

    def _wait_for(self, slot: Slot) -> int:
        """The instant of hand-over; 0 when it must not be: too late, or stopping."""
        while (early_us := slot.at_us - self._clock.mono_us()) > 0:
            if self._stopping.wait(early_us / 1_000_000):
                return 0
        now_us = self._clock.mono_us()
        return now_us if now_us <= slot.until_us and not self._stopping.is_set() else 0
