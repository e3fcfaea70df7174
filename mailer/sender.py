"""A sender process: claim → pace → hand over → record.

One main thread owns the store and the loop; the threads of `handover` make the calls. Outcomes,
the actual uses of slots, and the next claim go in one commit. Several senders share the work, the
rate and the queue through the store, and any of them may die at any instruction.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

from mailer.allowance import allowance, as_of_now, rate_per_second
from mailer.attempt_log import AttemptLog
from mailer.calls import Call, Finished, deadline_us
from mailer.clock import Clock
from mailer.compose import Links, compose
from mailer.handover import PROBE_US, Sessions
from mailer.hookspecs import Envelope, Outcome, Transport
from mailer.mail import ClaimedMail, Content
from mailer.measuring import LimiterWait, measure
from mailer.pacing import Lesson
from mailer.retry import pause_s, teaches_rate, trouble
from mailer.settings import Settings
from mailer.store import Store
from mailer.store.housekeeping import RESERVE_BYTES
from mailer.store.queue import Ask, Lease
from mailer.store.sent import Attempted
from mailer.store.slots import UNLIMITED_SLOT, UsedSlot
from mailer.vocabulary import OutcomeKind

log = logging.getLogger("mailer.sender")

LEASE_US: Final = 30_000_000
RENEW_US: Final = 5_000_000
REPORT_USE_US: Final = 200_000
"""So long the use of a slot may go unrecorded: until then it counts as used as late as possible."""
CONTENTS_KEPT: Final = 32


class Sender:
    """One sender: what is in flight, and what has come back and is not yet written down."""

    def __init__(
        self,
        store: Store,
        transports: Mapping[str, Transport],
        settings: Settings,
        clock: Clock,
        *,
        sender: int,
        takes_alone: bool,
        begun: Callable[[int], None],
        came_back: Callable[[], None],
        jitter: Callable[[], float],
    ) -> None:
        """`begun` is told of each slot before its transport is called, from any thread."""
        self.next_slot_us: int | None = None
        """When a slot is free for mail that waits, as the last step found."""
        self._store = store
        self._settings = settings
        self._clock = clock
        self._sender = sender
        self._takes_alone = takes_alone
        self._jitter = jitter
        key = store.signing_key()
        self._links = Links(settings.public_url, key)
        self._attempts = AttemptLog(key, lambda mail: self._content(mail.message_id).topic_id)
        self._contents: OrderedDict[int, Content] = OrderedDict()
        self._finished: list[Finished] = []
        self._uses = SlotUses()
        self._stopping = False
        self._alone = False
        self._written_us = 0
        self._limiter_wait = LimiterWait(store.measures)

        def began(call: Call, at_us: int) -> None:
            if at_us:
                begun(call.slot.at_us)
            self._uses.began(call, at_us)

        def finished(call: Finished) -> None:
            self._finished.append(call)
            came_back()

        self.sessions = [
            Sessions(
                name,
                transport,
                clock,
                began=began,
                finished=finished,
                opened=came_back,
            )
            for name, transport in transports.items()
        ]

    def step(self) -> int:
        """Record what has come back, claim what may go, hand it to the sessions.

        What that came to; after 0 there is nothing more to do for now. Raises StoreUnavailable;
        what has come back is then kept.
        """
        now_ms, now_us = self._clock.wall_ms(), self._clock.mono_us()
        self._attempts.sum_up(now_us)
        for sessions in self.sessions:
            sessions.give_up_late()
        finished, uses = self._finished[:], self._uses.known()
        asks = self._asks(now_ms, now_us)
        written_us = now_us - self._written_us
        if not (finished or asks or written_us > (REPORT_USE_US if uses else RENEW_US)):
            return 0
        calls: list[tuple[str, Call]] = []
        moved_aside = 0
        with self._store.write():
            self._record(finished, uses, now_ms, now_us)
            for ask in asks:
                begun = sum(name == ask.transport for name, _ in calls)
                current = as_of_now(self._store, ask, self._settings, now_ms, now_us, begun=begun)
                if current is None:
                    continue
                claim = self._store.queue.claim(current, now_ms=now_ms, now_us=now_us)
                if ask.trial and claim.leases:
                    self._store.transports.await_trial(ask.transport, now_us + PROBE_US)
                moved_aside += claim.moved_aside
                calls += [(ask.transport, call) for call in self._calls(claim.leases, ask)]
        del self._finished[: len(finished)]
        self._uses.forget(uses)
        self._written_us = now_us
        self._start(calls)
        for end in finished:
            self._attempts.note(end)
        return len(calls) + moved_aside

    def record_only(self) -> None:
        """Write down what has come back, in the room the reserve gives up if need be.

        For a full disk: mail that was handed over must be known as sent.
        """
        disk = self._store.housekeeping
        if self._finished and disk.free_bytes() < RESERVE_BYTES and disk.give_up_reserve():
            log.warning("the disk is full: gave up the reserve to record what was handed over")
            finished, uses = self._finished[:], self._uses.known()
            with self._store.write():
                self._record(finished, uses, self._clock.wall_ms(), self._clock.mono_us())
            del self._finished[: len(finished)]
            self._uses.forget(uses)

    def running(self) -> list[tuple[Sessions, Call]]:
        """The calls in flight."""
        return [(sessions, call) for sessions in self.sessions for call in sessions.running()]

    @property
    def at_rest(self) -> bool:
        """Nothing is in flight and everything is written down."""
        return not self.running() and not self._finished

    def stop(self) -> None:
        """Claim nothing more; calls in flight end and are recorded, the others are given back."""
        self._stopping = True
        for sessions in self.sessions:
            sessions.stop()

    def overdue(self) -> list[tuple[Sessions, Call]]:
        """Calls that have outlasted what their transport promised."""
        now_us = self._clock.mono_us()
        return [
            (sessions, call)
            for sessions, call in self.running()
            if now_us > deadline_us(call, sessions.transport)
        ]

    def give_up(self, calls: Iterable[tuple[Sessions, Call]], why: str) -> None:
        """Count calls in flight as ended, outcome unknown.

        Their threads can't be ended: the process has to be, once this is written down.
        """
        now_ms, now_us = self._clock.wall_ms(), self._clock.mono_us()
        ended = {id(end.call) for end in self._finished}
        for sessions, call in calls:
            if id(call) in ended:
                continue  # its answer came just now
            log.error("%s: %s (%d mails)", sessions.name, why, len(call.mails))
            outcomes = [Outcome(OutcomeKind.UNKNOWN, why)] * len(call.mails)
            began_ms = now_ms - max(0, now_us - call.slot.at_us) // 1000
            self._finished.append(Finished(sessions.name, call, outcomes, began_ms, now_ms))

    def _asks(self, now_ms: int, now_us: int) -> Sequence[Ask]:
        self.next_slot_us = None
        if self._alone:
            self._alone = bool(self.running())
        if self._stopping or self._alone:
            return ()
        allowed = allowance(
            self._store,
            self.sessions,
            self._settings,
            sender=self._sender,
            takes_alone=self._takes_alone,
            now_ms=now_ms,
            now_us=now_us,
        )
        self.next_slot_us = allowed.next_slot_us
        self._limiter_wait.note(self.next_slot_us, now_us)
        self._alone = any(ask.alone for ask in allowed.asks)
        return allowed.asks

    def _calls(self, leases: Iterable[Lease], ask: Ask) -> Iterator[Call]:
        """Leases as calls of at most the transport's batch; all of a lease start in its slot."""
        for lease in leases:
            for n in range(0, len(lease.mails), ask.batch_size):
                part = lease.mails[n : n + ask.batch_size]
                yield Call(lease.slot_id, lease.slot, part, self._composer(part), ask.trial)

    def _start(self, calls: Sequence[tuple[str, Call]]) -> None:
        for slot, of_slot in Counter(call.slot_id for _, call in calls).items():
            if slot != UNLIMITED_SLOT:
                self._uses.expect(slot, of_slot)
        for sessions in self.sessions:
            sessions.start([call for name, call in calls if name == sessions.name])

    def _composer(self, mails: tuple[ClaimedMail, ...]) -> Callable[[ClaimedMail], Envelope]:
        contents = {mail.message_id: self._content(mail.message_id) for mail in mails}

        def compose_one(mail: ClaimedMail) -> Envelope:
            return compose(
                contents[mail.message_id],
                mail.recipient,
                request_id=mail.request_id,
                created_at_ms=mail.accepted_at_ms,
                default_from=self._settings.default_from,
                links=self._links,
            )

        return compose_one

    def _content(self, message: int) -> Content:
        """A message's content, of which the last few are kept at hand."""
        if message in self._contents:
            self._contents.move_to_end(message)
        else:
            self._contents[message] = self._store.messages.get(message)
            if len(self._contents) > CONTENTS_KEPT:
                self._contents.popitem(last=False)
        return self._contents[message]

    def _record(
        self, finished: Sequence[Finished], uses: Sequence[UsedSlot], now_ms: int, now_us: int
    ) -> None:
        """Outcomes, the slots' real uses, and what they say of the transport as a whole."""
        attempted = []
        not_handed_over = []
        for end in finished:
            measure(self._store.measures, end)
            self._tell_transport(end, now_ms, now_us)
            if end.outcomes is None:
                not_handed_over += [mail.id for mail in end.call.mails]
                continue
            attempted += [
                Attempted(mail.id, outcome, end.started_at_ms, end.ended_at_ms)
                for mail, outcome in zip(end.call.mails, end.outcomes, strict=True)
            ]
        self._store.outcomes.record(attempted, now_ms=now_ms, jitter=self._jitter)
        self._store.outcomes.give_back(not_handed_over, now_ms=now_ms)
        self._store.slots.used(uses)
        self._store.senders.renew(self._sender, now_us + LEASE_US)
        for sessions in self.sessions:
            if sessions.unreachable:
                self._store.transports.note_unreachable(
                    sessions.name,
                    sessions.unreachable,
                    halted_at_ms=now_ms if sessions.halted else None,
                )
            elif sessions.reached:
                sessions.reached = False
                self._store.transports.note_reached(sessions.name)

    def _tell_transport(self, end: Finished, now_ms: int, now_us: int) -> None:
        """A call that found the provider in trouble pauses it for all senders.

        After the pause one mail is tried; when the provider answers it, all go on.
        """
        transports = self._store.transports
        state = transports.get(end.transport)
        if state is None:
            return
        if end.call.trial and end.outcomes is None:
            transports.await_trial(end.transport, now_us)  # nothing was tried: another may be
            return
        if end.outcomes is None or (state.blocked_until_us > now_us and not end.call.trial):
            return  # said of a call that was in flight when the pause began
        problem = trouble(end.outcomes)
        if problem is None:
            if state.throttled or state.blocked_reason:
                transports.unblock(end.transport)
            return
        wait_s = pause_s(problem, state.throttled + 1)
        transports.block(
            end.transport,
            now_us + int(wait_s * 1e6),
            problem.detail,
            halted_at_ms=now_ms if problem.halts else None,
        )
        rate = rate_per_second(self._settings, end.transport, state, now_us)
        if rate is not None and teaches_rate(problem, state.throttled + 1):
            transports.learn_rate(end.transport, Lesson(rate, now_us))
        log.warning(
            "%s %s: nothing is claimed for %.1f s, then one mail is tried",
            end.transport,
            "throttled us" if problem.kind is OutcomeKind.THROTTLED else "is in trouble",
            wait_s,
        )


class SlotUses:
    """When slots were really used. A slot may serve several calls; it is known when all began."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._expected: dict[int, int] = {}
        self._used: dict[int, UsedSlot] = {}

    def expect(self, slot: int, calls: int) -> None:
        """A slot is about to be used by so many calls."""
        with self._lock:
            self._expected[slot] = calls

    def began(self, call: Call, at_us: int) -> None:
        """One call used its slot at that instant, or with 0 gave it up. From any thread."""
        if call.slot_id == UNLIMITED_SLOT:
            return
        with self._lock:
            self._expected[call.slot_id] -= 1
            before = self._used.get(call.slot_id, UsedSlot(call.slot_id, 0, 0))
            recipients = before.recipients + (len(call.mails) if at_us else 0)
            self._used[call.slot_id] = UsedSlot(call.slot_id, max(before.at_us, at_us), recipients)

    def known(self) -> list[UsedSlot]:
        """The slots of which all is known."""
        with self._lock:
            return [used for slot, used in self._used.items() if not self._expected[slot]]

    def forget(self, written: Iterable[UsedSlot]) -> None:
        """These are on record now."""
        with self._lock:
            for used in written:
                del self._used[used.id], self._expected[used.id]
