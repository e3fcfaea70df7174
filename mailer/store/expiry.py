"""Giving up mail whose `expires_at` has passed while it waited behind a pause or a limit.

What comes to its turn is given up by the claim that finds it.
"""

from __future__ import annotations

from typing import Final

from mailer.store.batches import LOOKED_AT_A_STEP
from mailer.store.connection import Database
from mailer.store.counters import Tally
from mailer.store.queue import give_up
from mailer.vocabulary import State

_NEXT_EXPIRED: Final = """
SELECT b.id, b.id + b.mails - 1
FROM messages g JOIN batches b ON b.id = g.batch
WHERE g.expires_at_ms IS NOT NULL AND g.expired = 0 AND g.expires_at_ms <= ?
ORDER BY g.expires_at_ms LIMIT 1
"""

_EXPIRED_MAILS: Final = """
SELECT m.id, m.topic, m.transport, m.lane FROM mails m JOIN messages g ON g.id = m.message
WHERE m.id BETWEEN ? AND ? AND m.state = 'pending' AND g.expires_at_ms <= ? LIMIT ?
"""

_NOTE_EXPIRED: Final = """
UPDATE messages SET expired = 1
WHERE id BETWEEN ? AND ? AND expires_at_ms <= ? AND expired = 0
"""


class Expiry:
    """Waiting mail that is past its time."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def expire(self, *, now_ms: int, step: int) -> int:
        """Give up such mail, about `step` of it; 0 when there is none left."""
        tally = Tally()
        done = 0
        while done < step and (row := self._db.one(_NEXT_EXPIRED, (now_ms,))):
            batch, last_id = row
            expired = self._db.all(_EXPIRED_MAILS, (batch, last_id, now_ms, step))
            for place in expired:
                give_up(self._db, place, State.FAILED, now_ms, tally)
            if len(expired) < step:
                self._db.run(_NOTE_EXPIRED, (batch, last_id, now_ms))
            done += len(expired) + 1 + (last_id - batch) // LOOKED_AT_A_STEP
        tally.write(self._db)
        return done
