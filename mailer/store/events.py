"""The event log, append-only, and what each event does to the mail it tells of.

A provider's event is stored under the provider's id, once, also when its mail is not known yet:
it is parked then and applied when the hand-over is recorded. States move forward only.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from mailer.hookspecs import ProviderEvent
from mailer.metrics import EVENT_LAG, EVENTS
from mailer.routing import preferred
from mailer.store.connection import Database, Row
from mailer.store.counters import Tally
from mailer.store.mails import find_id
from mailer.store.suppressions import suppress
from mailer.vocabulary import (
    HANDED_OVER,
    SCOPE_EVERYWHERE,
    EventType,
    State,
    SuppressionReason,
    suppression_scope,
    way,
)

# Who delays a mail has taken it. An open proves less: a server may look into a mail and refuse
# it then.
_TARGETS: Final = {
    EventType.SENT: State.SENT,
    EventType.DELAY: State.SENT,
    EventType.REJECT: State.FAILED,
    EventType.DELIVERY: State.DELIVERED,
    EventType.BOUNCE: State.BOUNCED,
    EventType.COMPLAINT: State.COMPLAINED,
}

_COUNTERS: Final = {
    EventType.DELIVERY: "deliveries",
    EventType.BOUNCE: "bounces",
    EventType.COMPLAINT: "complaints",
    EventType.CLICK: "clicks",
    EventType.UNSUBSCRIBE: "unsubscribes",
}

AUTOMATED_WITHIN_MS: Final = 1_000
"""An open or click so soon after the mail was delivered was not made by a person."""

_APPEND: Final = """
INSERT INTO events (type, at_ms, mail, topic, source, source_event_id, provider_id, request_id,
    permanent, already_suppressed, automated, detail, raw)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO NOTHING
"""

_PARKED: Final = """
SELECT value ->> 0, e.id, e.type, e.at_ms, e.source, e.source_event_id, e.provider_id, e.request_id,
    e.permanent, e.already_suppressed, e.automated, e.detail, e.raw
FROM json_each(?) CROSS JOIN events e ON e.provider_id = value ->> 1
WHERE e.mail IS NULL
ORDER BY e.id
"""

_FIND: Final = """
SELECT m.id, m.topic, t.topic_id, m.transport, m.via, m.lane, m.state, m.state_at_ms,
    m.opened_at_ms, m.recipient
FROM mails m JOIN topics t ON t.id = m.topic
WHERE m.id = ?
"""

_MOVE: Final = """
UPDATE mails SET state = ?, state_at_ms = ?, waits_for = NULL, sender = NULL, slot_us = NULL,
    settle_at_ms = NULL, detail = ?, provider_id = coalesce(provider_id, ?)
WHERE id = ?
"""

_REJECTED: Final = """
SELECT 1 FROM events WHERE mail = ? AND type = 'reject' AND provider_id IS ? LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class _Mail:
    id: int
    topic: int
    topic_id: str
    queue: str
    transport: str
    """Which took it, or is to."""
    lane: str
    state: State
    state_at_ms: int
    opened_at_ms: int | None
    recipient: str


class Events:
    """Learning what became of mail."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def learn(self, events: Sequence[ProviderEvent], *, now_ms: int) -> int:
        """Append events and move their mails; how many were new. Runs in a transaction."""
        return self.learn_each([events], now_ms=now_ms)[0]

    def learn_each(
        self, notifications: Sequence[Sequence[ProviderEvent]], *, now_ms: int
    ) -> list[int]:
        """The same for several notifications: how many events of each were new."""
        tally = Tally()
        new = [
            sum(self._learn_one(event, now_ms, tally) for event in events)
            for events in notifications
        ]
        tally.write(self._db)
        return new

    def _learn_one(self, event: ProviderEvent, now_ms: int, tally: Tally) -> bool:
        mail = self._find(event)
        if not self._append(event, mail):
            return False
        self._db.measures.add(EVENTS, (event.source, event.type))
        self._db.measures.observe(EVENT_LAG, (event.source,), (now_ms - event.at_ms) * 1000)
        if mail is not None:
            self._apply(event, mail, now_ms, tally)
        return True

    def match_parked(self, mails: Sequence[tuple[int, str]], *, now_ms: int) -> None:
        """Apply events that came before their mail's hand-over was recorded.

        They enter the log here, at its end: who reads it has not been told of them yet. `mails`
        are ids with the provider's ids just learnt.
        """
        tally = Tally()
        for mail_id, place, event in map(_parked, self._db.all(_PARKED, (json.dumps(mails),))):
            mail = self._mail(mail_id)
            if mail is None:
                continue
            self._db.run("DELETE FROM events WHERE id = ?", (place,))
            self._append(event, mail)
            self._apply(event, mail, now_ms, tally)
        tally.write(self._db)

    def _append(self, event: ProviderEvent, mail: _Mail | None) -> bool:
        changed = self._db.run(
            _APPEND,
            (
                event.type,
                event.at_ms,
                mail.id if mail else None,
                mail.topic if mail else None,
                event.source,
                event.source_event_id or None,
                event.provider_id,
                event.request_id,
                event.permanent,
                event.already_suppressed,
                event.automated,
                event.detail,
                event.raw or None,
            ),
        )
        return changed > 0

    def _find(self, event: ProviderEvent) -> _Mail | None:
        """By our own id first, by the provider's second."""
        if event.request_id is not None:
            mail_id = find_id(self._db, event.request_id)
            return None if mail_id is None else self._mail(mail_id)
        row = self._db.one("SELECT id FROM mails WHERE provider_id = ?", (event.provider_id,))
        return self._mail(row[0]) if row else None

    def _mail(self, mail_id: int) -> _Mail | None:
        row = self._db.one(_FIND, (mail_id,))
        if row is None:
            return None
        id_, topic, topic_id, queue, via, lane, state, state_at_ms, opened_at_ms, recipient = row
        return _Mail(
            id_,
            topic,
            topic_id,
            queue,
            via or preferred(queue),
            lane,
            State(state),
            state_at_ms,
            opened_at_ms,
            recipient,
        )

    def _apply(self, event: ProviderEvent, mail: _Mail, now_ms: int, tally: Tally) -> None:
        if event.type is EventType.OPEN:
            self._opened(event, mail, now_ms, tally)
        elif event.type in _COUNTERS:
            tally.happened(mail.topic, _COUNTERS[event.type])
        target = _TARGETS.get(event.type)
        if event.type is EventType.BOUNCE and not event.permanent:
            target = State.SENT
        if target is State.SENT and self._db.one(_REJECTED, (mail.id, event.provider_id)):
            target = None  # that it was taken is told after what became of it
        if target is not None:
            self._move(mail, target, event, now_ms, tally)
        self._suppress(event, mail, now_ms)

    def _move(
        self, mail: _Mail, target: State, event: ProviderEvent, now_ms: int, tally: Tally
    ) -> None:
        steps = way(mail.state, target)
        if not steps:
            return
        old = mail.state
        for new in steps:
            tally.moved(mail.topic, mail.queue, mail.lane, old, new)
            old = new
        if mail.state not in HANDED_OVER:
            tally.handed_over(mail.topic, mail.transport, now_ms)
        detail = event.detail or None
        if target is State.FAILED:
            detail = f"the provider took it, and rejected it then: {event.detail}"
        self._db.run(_MOVE, (target, now_ms, detail, event.provider_id, mail.id))

    def _opened(self, event: ProviderEvent, mail: _Mail, now_ms: int, tally: Tally) -> None:
        soon = mail.state_at_ms + AUTOMATED_WITHIN_MS > now_ms
        tally.happened(mail.topic, "opens_total")
        if event.automated or soon:
            tally.happened(mail.topic, "opens_automated")
        if mail.opened_at_ms is None:
            tally.happened(mail.topic, "opens")
            self._db.run("UPDATE mails SET opened_at_ms = ? WHERE id = ?", (event.at_ms, mail.id))

    def _suppress(self, event: ProviderEvent, mail: _Mail, now_ms: int) -> None:
        group = suppression_scope(mail.topic_id)
        match event.type:
            case EventType.BOUNCE | EventType.COMPLAINT if event.already_suppressed:
                reason, scope = SuppressionReason.PROVIDER, SCOPE_EVERYWHERE
            case EventType.BOUNCE if event.permanent:
                reason, scope = SuppressionReason.BOUNCE, SCOPE_EVERYWHERE
            case EventType.COMPLAINT:
                reason, scope = SuppressionReason.COMPLAINT, group
            case EventType.UNSUBSCRIBE:
                reason, scope = SuppressionReason.UNSUBSCRIBE, group
            case _:
                return
        suppress(self._db, mail.recipient, scope, reason, event.detail, now_ms)


def _parked(row: Row) -> tuple[int, int, ProviderEvent]:
    """The mail it tells of, the place of a parked event, and the event as it was told."""
    mail_id, place, type_, at_ms, source, source_event_id, provider_id, request_id, *rest = row
    permanent, already_suppressed, automated, detail, raw = rest
    event = ProviderEvent(
        type=EventType(type_),
        at_ms=at_ms,
        source=source,
        source_event_id=source_event_id or "",
        request_id=request_id,
        provider_id=provider_id,
        permanent=bool(permanent),
        already_suppressed=bool(already_suppressed),
        automated=bool(automated),
        detail=detail,
        raw=raw or "",
    )
    return mail_id, place, event
