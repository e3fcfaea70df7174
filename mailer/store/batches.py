"""Batches: what one request brought, stored whole or not at all."""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from typing import Final

from mailer.errors import QueueFull
from mailer.mail import NewBatch, NewMessage, Recipient
from mailer.store.connection import Database
from mailer.store.counters import Tally
from mailer.store.messages import Messages
from mailer.vocabulary import UNFINISHED, EventType, State, WaitsFor

PRUNE_REVIEW_MS: Final = 24 * 3600 * 1000
LOOKED_AT_A_STEP: Final = 50
"""Rows that are read in the time it takes to change one."""

_TAKE_IDS: Final = """
UPDATE meta SET last_mail_id = last_mail_id + ? RETURNING last_mail_id
"""

_INSERT_BATCH: Final = """
INSERT INTO batches
    (batch_id, first_mail_id, mails, transport, accepted_at_ms, due_at_ms, prune_at_ms)
VALUES (?, ?, ?, ?, ?, ?, ?)
"""

_INSERT_MAIL: Final = """
INSERT INTO mails (id, batch, message, topic, recipient, name, data, checksum, transport, lane,
    state, waits_for, due_at_ms, first_due_at_ms, state_at_ms)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""

_OPEN_TOPIC: Final = """
INSERT INTO topics (topic_id, first_due_at_ms) VALUES (?, ?)
ON CONFLICT DO UPDATE SET first_due_at_ms =
    min(coalesce(first_due_at_ms, excluded.first_due_at_ms), excluded.first_due_at_ms)
RETURNING id
"""

_NEXT_TO_PRUNE: Final = """
SELECT id, first_mail_id, mails FROM batches WHERE prune_at_ms <= ? ORDER BY prune_at_ms LIMIT 1
"""

_PRUNABLE: Final = """
SELECT max(state_at_ms), sum(state IN (?, ?, ?)) FROM mails WHERE id BETWEEN ? AND ?
"""


@dataclass(frozen=True, slots=True)
class Batch:
    """A stored batch and where its mails are."""

    batch_id: str
    transport: str
    accepted_at_ms: int
    due_at_ms: int
    total: int
    states: dict[str, int]


class Batches:
    """Accepting mail, and looking at what was accepted together."""

    def __init__(self, db: Database, messages: Messages) -> None:
        self._db = db
        self._messages = messages

    def accept(self, batch: NewBatch, *, max_queued: int) -> None:
        """Store all of it in the running transaction.

        The mails' ids are `{batch_id}-0`, `{batch_id}-1`, … in the order of messages and
        recipients. Raises QueueFull, storing nothing.
        """
        mails = sum(len(message.recipients) for message in batch.messages)
        if self.queued() + mails > max_queued:
            raise QueueFull(f"{self.queued()} mails wait; no more than {max_queued} may")
        (last_id,) = self._db.one(_TAKE_IDS, (mails,)) or (0,)
        first_id = last_id - mails + 1
        batch_row = self._db.insert(
            _INSERT_BATCH,
            (
                batch.batch_id,
                first_id,
                mails,
                batch.transport,
                batch.accepted_at_ms,
                batch.due_at_ms,
                max(batch.accepted_at_ms, batch.due_at_ms) + PRUNE_REVIEW_MS,
            ),
        )
        tally = Tally()
        position = 0
        for message in batch.messages:
            self._insert_message(batch, batch_row, message, first_id, position, tally)
            position += len(message.recipients)
        self._db.insert(
            "INSERT INTO events (type, at_ms, batch, source, detail) VALUES (?, ?, ?, 'api', ?)",
            (EventType.ACCEPTED, batch.accepted_at_ms, batch_row, f"{mails} mails"),
        )
        tally.write(self._db)

    def _insert_message(
        self,
        batch: NewBatch,
        batch_row: int,
        message: NewMessage,
        first_id: int,
        position: int,
        tally: Tally,
    ) -> None:
        """The mails of a message, which follow `position` others of the batch."""
        content = message.content
        (topic,) = self._db.one(_OPEN_TOPIC, (content.topic_id or "", batch.due_at_ms)) or (0,)
        message_row = self._messages.add(content, batch=batch_row, topic=topic)
        scheduled = batch.due_at_ms > batch.accepted_at_ms
        waits_for = WaitsFor.DUE_TIME if scheduled else WaitsFor.TURN
        tail = (
            batch.transport,
            str(content.lane),
            str(State.PENDING),
            str(waits_for),
            batch.due_at_ms,
            batch.due_at_ms,
            batch.accepted_at_ms,
        )
        self._db.many(
            _INSERT_MAIL,
            [
                (
                    first_id + position + n,
                    batch_row,
                    message_row,
                    topic,
                    r.email,
                    r.name,
                    data := json.dumps(r.data) if r.data is not None else None,
                    mail_checksum(
                        f"{batch.batch_id}-{position + n}",
                        batch.accepted_at_ms,
                        topic,
                        message_row,
                        r.email,
                        r.name,
                        data,
                    ),
                    *tail,
                )
                for n, r in enumerate(message.recipients)
            ],
        )
        tally.accepted(topic, batch.transport, content.lane, len(message.recipients))

    def queued(self) -> int:
        """Mails accepted and not yet finished."""
        row = self._db.one("SELECT coalesce(sum(mails), 0) FROM queue_depths")
        return int(row[0]) if row else 0

    def get(self, batch_id: str) -> Batch | None:
        row = self._db.one(
            "SELECT transport, accepted_at_ms, due_at_ms, mails, first_mail_id"
            " FROM batches WHERE batch_id = ?",
            (batch_id,),
        )
        if row is None:
            return None
        transport, accepted_at_ms, due_at_ms, mails, first_id = row
        states = dict.fromkeys(map(str, State), 0)
        states.update(
            self._db.all(
                "SELECT state, count(*) FROM mails WHERE id BETWEEN ? AND ? GROUP BY state",
                (first_id, first_id + mails - 1),
            )
        )
        return Batch(batch_id, transport, accepted_at_ms, due_at_ms, mails, states)

    def prune(self, *, retention_ms: int, now_ms: int, step: int) -> int:
        """Look at the batches whose turn it is; remove the mails of those that are old.

        How many rows that took, about `step`; 0 means that nothing is left to do for now.
        """
        done = 0
        while done < step and (row := self._db.one(_NEXT_TO_PRUNE, (now_ms,))):
            batch, first_id, mails = row
            ids = (first_id, first_id + mails - 1)
            newest, unfinished = self._db.one(_PRUNABLE, (*UNFINISHED, *ids)) or (None, 0)
            review_ms = now_ms + PRUNE_REVIEW_MS if unfinished else (newest or 0) + retention_ms
            if review_ms > now_ms:
                self._db.run("UPDATE batches SET prune_at_ms = ? WHERE id = ?", (review_ms, batch))
                done += 1 + mails // LOOKED_AT_A_STEP
            else:
                done += self._remove(batch, ids, step - done)
        return done

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
            self._messages.remove(batch)
            self._db.run("DELETE FROM batches WHERE id = ?", (batch,))
        return len(part) + 1


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
    parts = (request_id, accepted_at_ms, topic, message, email, name, data or "")
    return zlib.crc32("\0".join(map(str, parts)).encode())


def recipient_of(email: str, name: str, data: str | None) -> Recipient:
    return Recipient(email, name, json.loads(data) if data is not None else None)
