"""The event log: appended to by all that happens to mail, read in its order.

Ids grow in the order of the commits, since only one transaction writes at a time: who reads behind
the last id it has seen misses nothing. An event whose mail is not known yet is no part of the log;
it comes in, at the end, when the mail is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from mailer.hookspecs import Event
from mailer.store.connection import Database
from mailer.vocabulary import EventType

LOOKED_AT: Final = 5_000
"""Entries one page looks at, however few of them it was asked for."""

_APPEND: Final = """
INSERT INTO events (type, at_ms, mail, topic, source, detail) VALUES (?, ?, ?, ?, ?, ?)
"""

_EVENT: Final = """
SELECT e.id, e.type, e.at_ms, b.batch_id || '-' || (m.id - b.id), b.batch_id,
    nullif(t.topic_id, ''), m.recipient, g.tags, e.source, e.detail, e.permanent,
    e.already_suppressed, e.automated, e.raw
FROM events e
LEFT JOIN mails m ON m.id = e.mail
LEFT JOIN batches b ON b.id = coalesce(m.batch, e.batch)
LEFT JOIN messages g ON g.id = m.message
LEFT JOIN topics t ON t.id = coalesce(e.topic, (
    SELECT min(topic) FROM messages WHERE id >= b.id AND id < b.id + b.mails
    HAVING min(topic) = max(topic)))
"""

_TOLD: Final = "(e.mail IS NOT NULL OR (e.provider_id IS NULL AND e.request_id IS NULL))"

_ONE: Final = _EVENT + "WHERE e.id = ?"

_PAGE: Final = (
    _EVENT
    + f"""
WHERE e.id > :after AND e.id <= :last AND {_TOLD} AND (:type IS NULL OR e.type = :type)
    AND (:topic_id IS NULL OR t.topic_id = :topic_id)
ORDER BY e.id LIMIT :limit
"""
)

_LOOKED_AT: Final = """
SELECT max(id) FROM (SELECT id FROM events WHERE id > ? ORDER BY id LIMIT ?)
"""


@dataclass(frozen=True, slots=True)
class Page:
    """A part of the log: its events, which may be few or none though more follow."""

    events: list[Event]
    end: int
    """Where it ends: what the next page begins behind."""
    more: bool
    """Whether there is something behind it already."""


class Log:
    """Reading the event log."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def page(
        self,
        after: int,
        *,
        limit: int,
        type_: EventType | None = None,
        topic_id: str | None = None,
    ) -> Page:
        """At most `limit` events behind the place `after`, oldest first."""
        filtered = type_ is not None or topic_id is not None
        looked_at = max(limit, LOOKED_AT) if filtered else limit
        (last,) = self._db.one(_LOOKED_AT, (after, looked_at)) or (None,)
        if last is None:
            return Page([], after, more=False)
        asked = {"after": after, "last": last, "type": type_, "topic_id": topic_id, "limit": limit}
        rows = self._db.all(_PAGE, asked)
        end = rows[-1][0] if len(rows) == limit else last
        more = self._db.one("SELECT 1 FROM events WHERE id > ? LIMIT 1", (end,)) is not None
        return Page([_event(row) for row in rows], end, more)

    def get(self, place: int) -> Event | None:
        """The event at a place of the log, if it is still there."""
        row = self._db.one(_ONE, (place,))
        return _event(row) if row else None

    def at_ms_behind(self, place: int) -> int | None:
        """When the first event behind a place came about, if there is one."""
        row = self._db.one("SELECT at_ms FROM events WHERE id > ? ORDER BY id LIMIT 1", (place,))
        return int(row[0]) if row else None

    def end(self) -> int:
        """The place of the newest event there ever was."""
        row = self._db.one("SELECT seq FROM sqlite_sequence WHERE name = 'events'")
        return int(row[0]) if row else 0


def append_own(
    db: Database, rows: Sequence[tuple[EventType, int, int | None, int | None, str, str]]
) -> None:
    """Rows of (type, at_ms, mail, topic, source, detail); runs in a transaction."""
    db.many(_APPEND, rows)


def event_id(place: int, at_ms: int) -> str:
    """An event's public id.

    The time keeps it from being given twice when an older copy of the database was restored.
    """
    return f"{place}-{at_ms:x}"


def place_of(event: str) -> int:
    """The place in the log that an event's public id names, or that is written as a number.

    Raises ValueError for what is neither.
    """
    match = re.fullmatch(r"([0-9]{1,18})(-[0-9a-f]{1,16})?", event, re.ASCII)
    if match is None:
        raise ValueError("not the id of an event")
    return int(match[1])


def _event(row: tuple[Any, ...]) -> Event:
    (place, type_, at_ms, mail_id, batch_id, topic_id, recipient, tags) = row[:8]
    (source, detail, permanent, already_suppressed, automated, raw) = row[8:]
    return Event(
        id=event_id(place, at_ms),
        type=EventType(type_),
        at_ms=at_ms,
        mail_id=mail_id,
        batch_id=batch_id,
        topic_id=topic_id,
        recipient=recipient,
        tags=json.loads(tags) if tags else {},
        source=source,
        detail=detail,
        permanent=bool(permanent),
        already_suppressed=bool(already_suppressed),
        automated=bool(automated),
        raw=raw or "",
    )
