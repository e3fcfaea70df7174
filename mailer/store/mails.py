"""Mails one by one: looking at them, cancelling and rescheduling what still waits."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from mailer.errors import Conflict, NotFound
from mailer.routing import preferred
from mailer.store.connection import Database
from mailer.store.counters import Tally
from mailer.store.log import append_own
from mailer.vocabulary import EventType, State, WaitsFor


@dataclass(frozen=True, slots=True)
class Mail:
    """One mail as it stands."""

    id: int
    request_id: str
    batch_id: str
    topic_id: str | None
    recipient: str
    name: str
    subject: str
    state: State
    waits_for: WaitsFor | None
    lane: str
    transport: str
    """Which took it, or is to."""
    attempts: int
    accepted_at_ms: int
    due_at_ms: int
    state_at_ms: int
    provider_id: str | None
    detail: str | None
    http_request_id: str


@dataclass(frozen=True, slots=True)
class Attempt:
    """One hand-over of a mail to a transport, with its outcome."""

    attempt: int
    transport: str
    started_at_ms: int
    ended_at_ms: int
    outcome: str
    detail: str
    provider_id: str | None


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    """One event of a mail's history."""

    id: int
    type: str
    at_ms: int
    source: str
    detail: str


_MAIL: Final = """
SELECT m.id, b.batch_id || '-' || (m.id - b.id), b.batch_id, nullif(t.topic_id, ''),
    m.recipient, m.name, g.subject, m.state, m.waits_for, m.lane, m.transport, m.attempts,
    b.accepted_at_ms, m.due_at_ms, m.state_at_ms, m.provider_id, m.detail,
    b.http_request_id, iif(m.state = 'pending', NULL, m.via)
FROM mails m
JOIN batches b ON b.id = m.batch
JOIN messages g ON g.id = m.message
JOIN topics t ON t.id = m.topic
"""

_BY_ID: Final = _MAIL + "WHERE m.id = ?"
_BY_BATCH: Final = (
    _MAIL
    + """
WHERE m.id > :after AND m.id BETWEEN :first AND :last
    AND (:state IS NULL OR m.state = :state) AND (:recipient IS NULL OR m.recipient = :recipient)
    AND (:topic_id IS NULL OR t.topic_id = :topic_id)
ORDER BY m.id LIMIT :limit
"""
)
_BY_RECIPIENT: Final = (
    _MAIL
    + """
WHERE m.recipient = :recipient AND m.id > :after AND (:state IS NULL OR m.state = :state)
    AND (:topic_id IS NULL OR t.topic_id = :topic_id)
ORDER BY m.id LIMIT :limit
"""
)
_BY_TOPIC: Final = (
    _MAIL
    + """
WHERE m.topic = (SELECT id FROM topics WHERE topic_id = :topic_id) AND m.id > :after
    AND (:state IS NULL OR m.state = :state)
ORDER BY m.id LIMIT :limit
"""
)
_ALL: Final = (
    _MAIL
    + """
WHERE m.id > :after AND (:state IS NULL OR m.state = :state) ORDER BY m.id LIMIT :limit
"""
)

_RESCHEDULE: Final = """
UPDATE mails SET due_at_ms = :due, first_due_at_ms = :due, waits_for =
    CASE WHEN :due > :now THEN 'due_time' WHEN crashes > 0 THEN 'alone' ELSE 'turn' END
WHERE id = :id
"""


class Mails:
    """Mails by their ids and by what they have in common."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def find_id(self, request_id: str) -> int | None:
        """The row of a public id."""
        return find_id(self._db, request_id)

    def get(self, request_id: str) -> Mail | None:
        mail_id = self.find_id(request_id)
        row = self._db.one(_BY_ID, (mail_id,)) if mail_id is not None else None
        return _mail(row) if row else None

    def attempts(self, mail_id: int) -> list[Attempt]:
        rows = self._db.all(
            "SELECT attempt, transport, started_at_ms, ended_at_ms, outcome, detail, provider_id"
            " FROM attempts WHERE mail = ? ORDER BY attempt",
            (mail_id,),
        )
        return [Attempt(*row) for row in rows]

    def events(self, mail_id: int) -> list[LoggedEvent]:
        """A mail's history, oldest first; its acceptance is the batch's event."""
        rows = self._db.all(
            "SELECT id, type, at_ms, source, detail FROM events WHERE mail = ? ORDER BY id",
            (mail_id,),
        )
        return [LoggedEvent(*row) for row in rows]

    def list(
        self,
        *,
        topic_id: str | None = None,
        recipient: str | None = None,
        state: State | None = None,
        batch_id: str | None = None,
        after: int = 0,
        limit: int = 100,
    ) -> list[Mail]:
        """Mails in the order of acceptance, behind the row `after`."""
        asked: dict[str, Any] = {
            "topic_id": topic_id,
            "recipient": recipient,
            "state": state,
            "after": after,
            "limit": limit,
        }
        if batch_id is not None:
            row = self._db.one("SELECT id, mails FROM batches WHERE batch_id = ?", (batch_id,))
            first, mails = row or (0, 0)
            asked |= {"first": first, "last": first + mails - 1}
            return [_mail(row) for row in self._db.all(_BY_BATCH, asked)]
        sql = _BY_RECIPIENT if recipient else _BY_TOPIC if topic_id else _ALL
        return [_mail(row) for row in self._db.all(sql, asked)]

    def cancel(self, request_id: str, *, now_ms: int) -> Mail:
        """Cancel a waiting mail; one in flight is cancelled if it comes back.

        Raises NotFound; Conflict when it is no longer to be stopped.
        """
        mail = self._require(request_id)
        if mail.state in {State.SENDING, State.UNCERTAIN}:
            self._db.run("UPDATE mails SET cancel_requested = 1 WHERE id = ?", (mail.id,))
            return mail
        if mail.state is State.CANCELLED:
            return mail
        if mail.state is not State.PENDING:
            raise Conflict(f"the mail is {mail.state} and can't be cancelled any more")
        cancel(self._db, [mail.id], now_ms=now_ms)
        return self._require(request_id)

    def reschedule(self, request_id: str, due_at_ms: int, *, now_ms: int) -> Mail:
        """Give a waiting mail another due time.

        Raises NotFound; Conflict when it is not pending.
        """
        mail = self._require(request_id)
        if mail.state is not State.PENDING:
            raise Conflict(f"the mail is {mail.state}; only a pending mail can be rescheduled")
        self._db.run(_RESCHEDULE, {"due": due_at_ms, "now": now_ms, "id": mail.id})
        self._db.run(
            "INSERT INTO events (type, at_ms, mail, topic, source, detail)"
            " SELECT ?, ?, id, topic, 'api', ? FROM mails WHERE id = ?",
            (EventType.RESCHEDULED, now_ms, f"due_at_ms {due_at_ms}", mail.id),
        )
        return self._require(request_id)

    def cancel_batch(self, batch_id: str, *, now_ms: int) -> tuple[int, int, int]:
        """(cancelled, in flight, already finished) of a batch's mails. Raises NotFound."""
        row = self._db.one("SELECT id, mails FROM batches WHERE batch_id = ?", (batch_id,))
        if row is None:
            raise NotFound(f"there is no batch {batch_id}")
        bounds = (row[0], row[0] + row[1] - 1)
        pending = self._db.all(
            "SELECT id FROM mails WHERE id BETWEEN ? AND ? AND state = 'pending'", bounds
        )
        cancel(self._db, [mail_id for (mail_id,) in pending], now_ms=now_ms)
        in_flight = self._db.run(
            "UPDATE mails SET cancel_requested = 1 WHERE id BETWEEN ? AND ?"
            " AND state IN ('sending', 'uncertain')",
            bounds,
        )
        return len(pending), in_flight, row[1] - len(pending) - in_flight

    def _require(self, request_id: str) -> Mail:
        mail = self.get(request_id)
        if mail is None:
            raise NotFound(f"there is no mail {request_id}")
        return mail


def cancel(db: Database, mail_ids: list[int], *, now_ms: int) -> None:
    """Cancel pending mails, within the running transaction."""
    tally = Tally()
    for mail_id in mail_ids:
        row = db.one(
            "UPDATE mails SET state = 'cancelled', state_at_ms = ?, waits_for = NULL"
            " WHERE id = ? AND state = 'pending' RETURNING topic, transport, lane",
            (now_ms, mail_id),
        )
        if row is None:
            continue
        topic, queue, lane = row
        tally.moved(topic, queue, lane, State.PENDING, State.CANCELLED)
        append_own(db, [(EventType.CANCELLED, now_ms, mail_id, topic, "api", "")])
    tally.write(db)


def find_id(db: Database, request_id: str) -> int | None:
    """The row of a mail's public id; a batch's mails stand in consecutive rows."""
    batch_id, position = split_request_id(request_id)
    row = db.one(
        "SELECT id + ? FROM batches WHERE batch_id = ? AND mails > ?",
        (position, batch_id, position),
    )
    return row[0] if row else None


def split_request_id(request_id: str) -> tuple[str, int]:
    """The batch and the position a public id names; (`""`, 0) for one that can't be ours."""
    match = re.fullmatch(r"([0-9a-f]{1,64})-(0|[1-9][0-9]{0,8})", request_id, re.ASCII)
    return (match[1], int(match[2])) if match else ("", 0)


def _mail(row: tuple[Any, ...]) -> Mail:
    *values, via = row
    values[7] = State(values[7])
    values[8] = WaitsFor(values[8]) if values[8] else None
    values[10] = via or preferred(values[10])
    return Mail(*values)
