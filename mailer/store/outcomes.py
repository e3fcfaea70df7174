"""Recording what became of claimed mail: outcomes, evidence, crashes, and time running out.

Everything here ends a lease. A mail that was in flight when its sender died is `uncertain`; one
whose slot had not begun was certainly not handed over and waits again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from mailer.hookspecs import Outcome
from mailer.limits import Limits
from mailer.metrics import ATTEMPTS
from mailer.retry import SETTLE_WITHOUT_EVENTS_MS, Decision, decide, settle
from mailer.routing import kept_by
from mailer.settings import Settings
from mailer.store.connection import Database
from mailer.store.counters import Tally
from mailer.store.events import Events
from mailer.store.log import append_own
from mailer.store.sent import NEW_ATTEMPT, Attempted, record_sent
from mailer.vocabulary import (
    EventType,
    OutcomeKind,
    State,
    UncertainPolicy,
    WaitsFor,
)

_HELD: Final = """
SELECT m.id, m.topic, m.transport, m.via, m.lane, m.state, m.attempts, m.crashes, m.first_due_at_ms,
    m.cancel_requested, m.slot_us, t.uncertain_policy, x.reports_events
FROM mails m
JOIN topics t ON t.id = m.topic
LEFT JOIN transports x ON x.transport = m.via
"""

_HELD_BY_ID: Final = _HELD + "WHERE m.id IN (SELECT value FROM json_each(?))"
_HELD_BY_SENDER: Final = _HELD + "WHERE m.sender = ? AND m.state = 'sending'"
_TO_SETTLE: Final = (
    _HELD + "WHERE m.settle_at_ms <= ? AND m.state = 'uncertain' ORDER BY m.settle_at_ms LIMIT ?"
)

_WRITE: Final = """
UPDATE mails SET state = ?, state_at_ms = ?, waits_for = ?, transport = ?,
    due_at_ms = coalesce(?, due_at_ms),
    attempts = attempts - ?, crashes = ?, settle_at_ms = ?, provider_id = coalesce(?, provider_id),
    detail = ?, sender = NULL, slot_us = NULL
WHERE id = ?
"""

_KEEP_PROVIDER_ID: Final = """
UPDATE mails SET provider_id = coalesce(?, provider_id) WHERE id = ?
"""

_SAID: Final = {
    State.SENT: EventType.SENT,
    State.FAILED: EventType.FAILED,
    State.UNCERTAIN: EventType.UNCERTAIN,
    State.PENDING: EventType.DEFERRED,
    State.CANCELLED: EventType.CANCELLED,
}


@dataclass(frozen=True, slots=True)
class _Held:
    id: int
    topic: int
    queue: str
    via: str
    lane: str
    state: State
    attempts: int
    crashes: int
    first_due_at_ms: int
    cancel_requested: bool
    slot_us: int | None
    policy: UncertainPolicy | None
    reports_events: bool


@dataclass(frozen=True, slots=True)
class Rules:
    """The settings that the store goes by: outcomes are decided by them, limits kept."""

    max_age_ms: int
    uncertain_grace_ms: int
    uncertain_policy: UncertainPolicy
    limits: Limits = field(default_factory=Limits)


def rules_of(settings: Settings) -> Rules:
    """The rules these settings make."""
    return Rules(
        max_age_ms=settings.max_age_s * 1000,
        uncertain_grace_ms=settings.uncertain_grace_s * 1000,
        uncertain_policy=settings.uncertain_policy,
        limits=settings.limits,
    )


class Outcomes:
    """The ends of leases."""

    def __init__(self, db: Database, events: Events, rules: Rules) -> None:
        self._db = db
        self._events = events
        self._rules = rules

    def record(
        self, attempts: Sequence[Attempted], *, now_ms: int, jitter: Callable[[], float]
    ) -> None:
        """Write the outcomes of finished calls, in the running transaction."""
        taken = [a for a in attempts if a.outcome.kind is OutcomeKind.ACCEPTED]
        sent = record_sent(self._db, taken, now_ms)
        self._decide([a for a in attempts if a.mail_id not in sent], now_ms, jitter)
        self._events.match_parked(
            [(a.mail_id, a.outcome.provider_id) for a in taken if a.outcome.provider_id],
            now_ms=now_ms,
        )

    def _decide(
        self, attempts: Sequence[Attempted], now_ms: int, jitter: Callable[[], float]
    ) -> None:
        by_id = {attempted.mail_id: attempted for attempted in attempts}
        writing = _Writing(self._db, now_ms)
        for held in self._held(_HELD_BY_ID, (json.dumps(list(by_id)),)):
            attempted = by_id[held.id]
            if attempted.outcome.kind is not OutcomeKind.THROTTLED:
                writing.attempt(held, attempted)
            if held.state not in {State.SENDING, State.UNCERTAIN}:
                # A provider's event was quicker and has settled it; the next may name its id only.
                self._db.run(_KEEP_PROVIDER_ID, (attempted.outcome.provider_id, held.id))
                continue
            decision = decide(
                attempted.outcome,
                attempt=held.attempts,
                age_ms=now_ms - held.first_due_at_ms,
                max_age_ms=self._rules.max_age_ms,
                jitter=jitter(),
            )
            if held.state is State.UNCERTAIN and decision.state is State.UNCERTAIN:
                continue
            self._write(writing, held, decision, now_ms, provider_id=attempted.outcome.provider_id)
            if decision.state is State.SENT:
                writing.tally.handed_over(held.topic, held.via, attempted.started_at_ms)
        writing.finish()

    def give_back(self, mail_ids: Sequence[int], *, now_ms: int) -> None:
        """Claimed mails that were certainly not handed over wait again, no attempt used."""
        writing = _Writing(self._db, now_ms)
        for held in self._held(_HELD_BY_ID, (json.dumps(list(mail_ids)),)):
            if held.state is State.SENDING:
                self._write(writing, held, _NOT_HANDED_OVER, now_ms)
        writing.finish()

    def rescue(self, sender: int, *, begun_us: int, now_ms: int) -> tuple[int, int]:
        """A sender is dead: (mails now uncertain, mails that wait again).

        It has not begun with slots later than `begun_us`.
        """
        writing = _Writing(self._db, now_ms)
        uncertain = waiting = 0
        for held in self._held(_HELD_BY_SENDER, (sender,)):
            if held.slot_us is not None and held.slot_us > begun_us:
                waiting += 1
                self._write(writing, held, _NOT_HANDED_OVER, now_ms)
            else:
                uncertain += 1
                why = "the sender ended during the hand-over"
                lost = Attempted(held.id, Outcome(OutcomeKind.UNKNOWN, why), now_ms, now_ms)
                self._db.measures.add(ATTEMPTS, (held.via, OutcomeKind.UNKNOWN))
                writing.attempt(held, lost)
                decision = Decision(State.UNCERTAIN, reason=why)
                self._write(writing, held, decision, now_ms, crashes=held.crashes + 1)
        writing.finish()
        return uncertain, waiting

    def to_settle(self, *, now_ms: int) -> bool:
        """Whether `settle` would find any: a read, for the idle."""
        return bool(self._db.all(_TO_SETTLE, (now_ms, 1)))

    def settle(self, *, now_ms: int, step: int) -> int:
        """Decide by policy the uncertain mails whose grace has ended; how many there were."""
        writing = _Writing(self._db, now_ms)
        held_mails = self._held(_TO_SETTLE, (now_ms, step))
        for held in held_mails:
            policy = held.policy or self._rules.uncertain_policy
            decision = settle(policy, crashes=held.crashes, attempts=held.attempts)
            self._write(writing, held, decision, now_ms, event=EventType.RESENT)
        writing.finish()
        return len(held_mails)

    def _held(self, sql: str, parameters: tuple[Any, ...]) -> list[_Held]:
        return [_held(row) for row in self._db.all(sql, parameters)]

    def _write(
        self,
        writing: _Writing,
        held: _Held,
        decision: Decision,
        now_ms: int,
        *,
        provider_id: str | None = None,
        crashes: int | None = None,
        event: EventType | None = None,
    ) -> None:
        """Put a decision down: the mail's row, its counters, its event."""
        crashes = held.crashes if crashes is None else crashes
        states = [decision.state]
        if decision.state is State.PENDING and held.cancel_requested:
            states.append(State.CANCELLED)
        last = states[-1]
        settle_at_ms = None
        queue = held.queue
        if last is State.UNCERTAIN:
            grace_ms = (
                self._rules.uncertain_grace_ms if held.reports_events else SETTLE_WITHOUT_EVENTS_MS
            )
            settle_at_ms = now_ms + grace_ms
            # Whoever may have taken it, no other is to send it again.
            queue = kept_by(held.via, held.queue)
            writing.tally.requeued(held.queue, queue, held.lane)
        writing.row(
            last,
            now_ms,
            _waits_for(last, decision, crashes),
            queue,
            now_ms + decision.wait_ms if decision.wait_ms else None,
            0 if decision.uses_attempt else 1,
            crashes,
            settle_at_ms,
            provider_id,
            decision.reason or None,
            held.id,
        )
        old = held.state
        for new in states:
            writing.tally.moved(held.topic, held.queue, held.lane, old, new)
            old = new
        if decision.uses_attempt or last is State.CANCELLED:
            said = event if event and last is State.PENDING else _SAID[last]
            writing.event(said, held, decision.reason)


def _held(row: tuple[Any, ...]) -> _Held:
    (mail_id, topic, queue, via, lane, state, attempts, crashes, first_due_at_ms) = row[:9]
    (cancel_requested, slot_us, policy, reports_events) = row[9:]
    return _Held(
        id=mail_id,
        topic=topic,
        queue=queue,
        via=via,
        lane=lane,
        state=State(state),
        attempts=attempts,
        crashes=crashes,
        first_due_at_ms=first_due_at_ms,
        cancel_requested=bool(cancel_requested),
        slot_us=slot_us,
        policy=UncertainPolicy(policy) if policy else None,
        reports_events=bool(reports_events),
    )


_NOT_HANDED_OVER: Final = Decision(State.PENDING, uses_attempt=False)


def _waits_for(state: State, decision: Decision, crashes: int) -> WaitsFor | None:
    if state is not State.PENDING:
        return None
    if decision.wait_ms:
        return WaitsFor.DUE_TIME
    return WaitsFor.ALONE if crashes else WaitsFor.TURN


class _Writing:
    """The rows one transaction writes, gathered so that each statement runs once over many."""

    def __init__(self, db: Database, now_ms: int) -> None:
        self.tally = Tally()
        self._db = db
        self._now_ms = now_ms
        self._rows: list[tuple[Any, ...]] = []
        self._attempts: list[tuple[Any, ...]] = []
        self._events: list[tuple[EventType, int, int | None, int | None, str, str]] = []

    def row(self, *values: Any) -> None:
        self._rows.append(values)

    def attempt(self, held: _Held, attempted: Attempted) -> None:
        outcome = attempted.outcome
        self._attempts.append(
            (
                held.id,
                held.attempts,
                attempted.started_at_ms,
                attempted.ended_at_ms,
                held.via,
                outcome.kind,
                outcome.detail,
                outcome.provider_id,
            )
        )

    def event(self, type_: EventType, held: _Held, detail: str) -> None:
        self._events.append((type_, self._now_ms, held.id, held.topic, held.via, detail))

    def finish(self) -> None:
        self._db.many(_WRITE, self._rows)
        self._db.many(NEW_ATTEMPT, self._attempts)
        append_own(self._db, self._events)
        self.tally.write(self._db)
