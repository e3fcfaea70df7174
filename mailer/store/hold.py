"""A database that was put back from a back-up is held: nothing is sent from it until released.

Mail that waits in it may have been sent since the back-up was taken. What providers tell
meanwhile is learnt as ever, so that mail they name is settled before anything goes out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from mailer.store.connection import Database

_DOUBTFUL: Final = """
SELECT nullif(t.topic_id, ''), count(*), min(m.due_at_ms), max(m.due_at_ms)
FROM mails m JOIN topics t ON t.id = m.topic
WHERE m.waits_for IS NOT NULL AND m.due_at_ms <= ?
GROUP BY m.topic ORDER BY count(*) DESC, t.topic_id
"""


@dataclass(frozen=True, slots=True)
class Held:
    """Since when, and of when the back-up is, if that is known."""

    since_ms: int
    backed_up_at_ms: int | None
    told: int
    """Events that providers told since."""


@dataclass(frozen=True, slots=True)
class Doubtful:
    """Waiting mails of one topic that were due already: they may have been sent."""

    topic_id: str | None
    mails: int
    first_due_at_ms: int
    last_due_at_ms: int


class Hold:
    """Whether mail may leave at all."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def is_on(self) -> bool:
        return self._db.one("SELECT 1 FROM meta WHERE held_since_ms IS NOT NULL") is not None

    def get(self) -> Held | None:
        row = self._db.one(
            "SELECT held_since_ms, backed_up_at_ms, (SELECT count(*) FROM events"
            " WHERE id > held_after_event AND source_event_id IS NOT NULL)"
            " FROM meta WHERE held_since_ms IS NOT NULL"
        )
        return Held(*row) if row else None

    def doubtful(self, now_ms: int) -> list[Doubtful]:
        """By topic, most mails first."""
        return [Doubtful(*row) for row in self._db.all(_DOUBTFUL, (now_ms,))]

    def release(self) -> None:
        """Let mail go; runs in a transaction."""
        self._db.run("UPDATE meta SET held_since_ms = NULL")
