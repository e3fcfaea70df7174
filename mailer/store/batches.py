"""Batches: what one request brought, stored whole or not at all."""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from mailer.errors import QueueFull
from mailer.limits import Limits
from mailer.mail import Content, NewBatch, NewMessage, Recipient
from mailer.routing import preferred
from mailer.store.connection import Database
from mailer.store.counters import Tally
from mailer.store.cursors import Held
from mailer.store.messages import Messages
from mailer.vocabulary import UNFINISHED, Lane, State

PRUNE_REVIEW_MS: Final = 24 * 3600 * 1000
HELD_REVIEW_MS: Final = 3600 * 1000
LOOKED_AT_A_STEP: Final = 50
"""Rows that are read in the time it takes to change one."""

MailRow = tuple[int, int, str, str, str | None, int, str | None]

_INSERT_BATCH: Final = """
INSERT INTO batches (id, batch_id, mails, transport, accepted_at_ms, due_at_ms, prune_at_ms,
    http_request_id)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""

# One statement for all mails: what they share is in their message and batch already, and while
# SQLite works on it other threads of the process go on.
_INSERT_MAILS: Final = """
INSERT INTO mails (id, batch, message, topic, recipient, name, data, checksum, transport, lane,
    state, waits_for, due_at_ms, first_due_at_ms, state_at_ms)
SELECT value ->> 0, b.id, g.id, g.topic, value ->> 2, value ->> 3, value ->> 4, value ->> 5,
    coalesce(value ->> 6, b.transport), g.lane, 'pending',
    CASE WHEN b.due_at_ms > b.accepted_at_ms THEN 'due_time' ELSE 'turn' END,
    b.due_at_ms, b.due_at_ms, b.accepted_at_ms
FROM json_each(?)
CROSS JOIN messages g ON g.id = value ->> 1
CROSS JOIN batches b ON b.id = g.batch
"""

_OPEN_TOPIC: Final = """
INSERT INTO topics (topic_id, first_due_at_ms, total, pending) VALUES (?1, ?2, ?3, ?3)
ON CONFLICT DO UPDATE SET total = total + ?3, pending = pending + ?3,
    first_due_at_ms = min(coalesce(first_due_at_ms, ?2), ?2)
RETURNING id
"""

_NOTE_ACCEPTED: Final = """
INSERT INTO events (type, at_ms, batch, source, detail)
SELECT 'accepted', accepted_at_ms, id, 'api', mails || ' mails' FROM batches
WHERE id >= ? ORDER BY id
"""

_COUNT_ALIKE: Final = """
SELECT state, transport, iif(state = 'pending', NULL, via), count(*) FROM mails
WHERE id BETWEEN ? AND ? GROUP BY 1, 2, 3
"""

_NEXT_TO_PRUNE: Final = """
SELECT id, mails FROM batches WHERE prune_at_ms <= ? ORDER BY prune_at_ms LIMIT 1
"""

_HELD_EVENT: Final = """
SELECT 1 FROM events WHERE mail BETWEEN ? AND ? AND id > ? LIMIT 1
"""

_PRUNABLE: Final = """
SELECT max(state_at_ms), sum(state IN (?, ?, ?)) FROM mails WHERE id BETWEEN ? AND ?
"""


@dataclass(frozen=True, slots=True)
class Batch:
    """A stored batch and where its mails are."""

    batch_id: str
    transports: list[str]
    """Those that took mail of it, or are to."""
    accepted_at_ms: int
    due_at_ms: int
    http_request_id: str
    total: int
    states: dict[str, int]


class Batches:
    """Accepting mail, and looking at what was accepted together."""

    def __init__(self, db: Database, messages: Messages, limits: Limits) -> None:
        self._db = db
        self._messages = messages
        self._limits = limits
        self._gathered: list[NewBatch] = []
        self._queued = 0
        """Mails that wait, those gathered included; known once there are any."""

    def accept(self, batch: NewBatch, *, max_queued: int) -> None:
        """Gather it, to be stored with others when the running transaction ends.

        The mails' ids are `{batch_id}-0`, `{batch_id}-1`, … in the order of messages and
        recipients. Raises QueueFull, storing nothing.
        """
        if not self._gathered:
            self._queued = self.queued()
        if self._queued + batch.mails > max_queued:
            raise QueueFull(f"{self._queued} mails wait; no more than {max_queued} may")
        self._queued += batch.mails
        self._gathered.append(batch)

    def store_gathered(self) -> None:
        """Store what the running transaction has accepted: one statement for each kind of row."""
        batches = self._gathered
        if not batches:
            return
        (last_id,) = self._db.one("SELECT last_mail_id FROM meta") or (0,)
        next_id = last_id + 1
        topics = self._open_topics(batches)
        tally = Tally()
        batch_rows = []
        contents: list[tuple[int, int, int, Content]] = []
        mails: list[MailRow] = []
        for batch in batches:
            batch_id = next_id
            batch_rows.append(_batch_row(batch_id, batch))
            for message in batch.messages:
                content = message.content
                topic = topics[content.topic_id or ""]
                contents.append((next_id, batch_id, topic, content))
                rows = _mail_rows(message, batch, batch_id, next_id, topic)
                queue = message.transport or batch.transport
                mails += self._into_queues(rows, queue, content.lane, tally)
                next_id += len(message.recipients)
            next_id = max(next_id, batch_id + 1)  # one without mails takes an id all the same
        self._db.many(_INSERT_BATCH, batch_rows)
        self._messages.add(contents)
        self._db.run(_INSERT_MAILS, (msgspec.json.encode(mails).decode(),))
        self._db.run(_NOTE_ACCEPTED, (last_id + 1,))
        self._db.run("UPDATE meta SET last_mail_id = ?", (next_id - 1,))
        tally.write(self._db)

    def _into_queues(
        self, rows: list[MailRow], queue: str, lane: Lane, tally: Tally
    ) -> list[MailRow]:
        """Rows with the queue of each: mail to a domain with limits of its own waits apart."""
        if not self._limits.domains:
            tally.queued(queue, lane, len(rows))
            return rows
        queues = [self._limits.own_queue(queue, email) for _, _, email, *_ in rows]
        for name, mails in Counter(queues).items():
            tally.queued(name, lane, mails)
        return [(*row[:-1], name) for row, name in zip(rows, queues, strict=True)]

    def forget_gathered(self) -> None:
        """The transaction has ended."""
        self._gathered = []

    def _open_topics(self, batches: Sequence[NewBatch]) -> dict[str, int]:
        """Each topic's row by its id; these mails are counted there."""
        mails: Counter[str] = Counter()
        first_due_at_ms: dict[str, int] = {}
        for batch in batches:
            for message in batch.messages:
                topic_id = message.content.topic_id or ""
                mails[topic_id] += len(message.recipients)
                earliest = first_due_at_ms.get(topic_id, batch.due_at_ms)
                first_due_at_ms[topic_id] = min(earliest, batch.due_at_ms)
        rows = {
            topic_id: self._db.one(_OPEN_TOPIC, (topic_id, first_due_at_ms[topic_id], number))
            for topic_id, number in mails.items()
        }
        return {topic_id: row[0] for topic_id, row in rows.items() if row}

    def queued(self) -> int:
        """Mails accepted and not yet finished."""
        row = self._db.one("SELECT coalesce(sum(mails), 0) FROM queue_depths")
        return int(row[0]) if row else 0

    def get(self, batch_id: str) -> Batch | None:
        row = self._db.one(
            "SELECT accepted_at_ms, due_at_ms, http_request_id, mails, id FROM batches"
            " WHERE batch_id = ?",
            (batch_id,),
        )
        if row is None:
            return None
        accepted_at_ms, due_at_ms, http_request_id, mails, first_id = row
        states = dict.fromkeys(map(str, State), 0)
        transports = set()
        alike = self._db.all(_COUNT_ALIKE, (first_id, first_id + mails - 1))
        for state, queue, via, number in alike:
            states[state] += number
            transports.add(via or preferred(queue))
        ways, times = sorted(transports), (accepted_at_ms, due_at_ms)
        return Batch(batch_id, ways, *times, http_request_id, mails, states)

    def prune(self, *, retention_ms: int, now_ms: int, step: int, held: Held | None = None) -> int:
        """Look at the batches whose turn it is; remove the mails of those that are old.

        Mails with events that are held stay a while longer. How many rows that took, about `step`;
        0 means that nothing is left to do for now.
        """
        done = 0
        while done < step and (row := self._db.one(_NEXT_TO_PRUNE, (now_ms,))):
            batch, mails = row
            ids = (batch, batch + mails - 1)
            newest, unfinished = self._db.one(_PRUNABLE, (*UNFINISHED, *ids)) or (None, 0)
            review_ms = now_ms + PRUNE_REVIEW_MS if unfinished else (newest or 0) + retention_ms
            if (
                held
                and review_ms + held.longest_ms > now_ms >= review_ms
                and self._holds(held, ids)
            ):
                review_ms = now_ms + HELD_REVIEW_MS
            if review_ms > now_ms:
                self._db.run("UPDATE batches SET prune_at_ms = ? WHERE id = ?", (review_ms, batch))
                done += 1 + mails // LOOKED_AT_A_STEP
            else:
                done += self._remove(batch, ids, step - done)
        return done

    def _holds(self, held: Held, ids: tuple[int, int]) -> bool:
        """Whether there is an event of these mails that not all event plugins were told of."""
        return bool(self._db.all(_HELD_EVENT, (*ids, held.behind)))

    def _remove(self, batch: int, ids: tuple[int, int], step: int) -> int:
        part = [
            row[0]
            for row in self._db.all(
                "SELECT id FROM mails WHERE id BETWEEN ? AND ? ORDER BY id LIMIT ?", (*ids, step)
            )
        ]
        if part:
            bounds = (part[0], part[-1])
            self._db.run("DELETE FROM attempts WHERE mail BETWEEN ? AND ?", bounds)
            self._db.run("DELETE FROM events WHERE mail BETWEEN ? AND ?", bounds)
            self._db.run("DELETE FROM mails WHERE id BETWEEN ? AND ?", bounds)
        if len(part) < step:
            self._messages.remove(ids)
            self._db.run("DELETE FROM batches WHERE id = ?", (batch,))
        return len(part) + 1


def _batch_row(batch_id: int, batch: NewBatch) -> tuple[int, str, int, str, int, int, int, str]:
    prune_at_ms = max(batch.accepted_at_ms, batch.due_at_ms) + PRUNE_REVIEW_MS
    times = (batch.accepted_at_ms, batch.due_at_ms, prune_at_ms)
    return (batch_id, batch.batch_id, batch.mails, batch.transport, *times, batch.http_request_id)


def _mail_rows(
    message: NewMessage, batch: NewBatch, batch_id: int, message_id: int, topic: int
) -> list[MailRow]:
    """The mails of a message: their ids begin with the message's own."""
    rows: list[MailRow] = []
    queue = None if message.transport == batch.transport else message.transport
    for mail_id, r in enumerate(message.recipients, start=message_id):
        request_id = f"{batch.batch_id}-{mail_id - batch_id}"
        data = json.dumps(r.data) if r.data is not None else None
        made_of = (request_id, batch.accepted_at_ms, topic, message_id, r.email, r.name, data)
        rows.append((mail_id, message_id, r.email, r.name, data, mail_checksum(*made_of), queue))
    return rows


def mail_checksum(
    request_id: str,
    accepted_at_ms: int,
    topic: int,
    message: int,
    email: str,
    name: str,
    data: str | None,
) -> int:
    """Guards what a mail is made of against bits that changed on disk: SQLite keeps no checksums.

    What changes in a mail's life is not in it: that stands in an index too, and SQLite's integrity
    check compares the two.
    """
    shared = f"{request_id}\0{accepted_at_ms}\0{topic}\0{message}"
    return zlib.crc32(f"{shared}\0{email}\0{name}\0{data or ''}".encode())


def recipient_of(email: str, name: str, data: str | None) -> Recipient:
    return Recipient(email, name, json.loads(data) if data is not None else None)
