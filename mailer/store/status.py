"""One look at everything that waits, for `mailer status` and `/ready`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from mailer.routing import preferred
from mailer.store.connection import Database
from mailer.vocabulary import WaitsFor

_FIRST_DUE: Final = """
SELECT (SELECT min(m.due_at_ms) FROM mails m
    WHERE m.transport = d.transport AND m.waits_for = ? AND m.lane = d.lane)
FROM queue_depths d
"""

LOOK_BACK_EVENTS: Final = 100_000

_TOLD_LAST: Final = """
SELECT at_ms FROM events
WHERE id > (SELECT coalesce(max(id), 0) FROM events) - ? AND source_event_id IS NOT NULL
ORDER BY id DESC LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class Depth:
    """The unfinished mails of one queue and lane."""

    queue: str
    lane: str
    mails: int

    @property
    def transport(self) -> str:
        """Which they are to take, unless it is out of service."""
        return preferred(self.queue)

    @property
    def domain(self) -> str:
        """Which they all go to, where that has limits of its own; `""` else."""
        return self.queue.partition("@")[2]


class Status:
    """What the store knows of the whole."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def depths(self) -> list[Depth]:
        rows = self._db.all("SELECT transport, lane, mails FROM queue_depths ORDER BY 1, 2")
        return [Depth(*row) for row in rows]

    def journal_mode(self) -> str:
        """What the file says of itself; `wal`, unless another program has changed it."""
        (mode,) = self._db.one("PRAGMA journal_mode") or ("",)
        return str(mode)

    def accepted_last_ms(self) -> int | None:
        row = self._db.one("SELECT accepted_at_ms FROM batches ORDER BY id DESC LIMIT 1")
        return int(row[0]) if row else None

    def told_last_ms(self) -> int | None:
        """When the last of a provider's events came about, of those not long ago."""
        row = self._db.one(_TOLD_LAST, (LOOK_BACK_EVENTS,))
        return int(row[0]) if row else None

    def handed_over(self, since_us: int) -> int:
        """Recipients in slots of the rate whose (latest) use is since then."""
        row = self._db.one(
            "SELECT coalesce(sum(recipients), 0) FROM slots WHERE until_us >= ?", (since_us,)
        )
        return int(row[0]) if row else 0

    def oldest_due_at_ms(self, now_ms: int) -> int | None:
        """When the mail that has waited longest was due."""
        found = [
            due_at_ms
            for waits_for in (WaitsFor.TURN, WaitsFor.DUE_TIME, WaitsFor.ALONE)
            for (due_at_ms,) in self._db.all(_FIRST_DUE, (waits_for,))
            if due_at_ms is not None and due_at_ms <= now_ms
        ]
        return min(found, default=None)
