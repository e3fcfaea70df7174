"""One look at everything that waits, for `mailer status` and `/ready`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from mailer.routing import preferred
from mailer.store.connection import Database
from mailer.store.counters import QUEUE_COUNTERS, QUEUE_STATES
from mailer.store.measures import Durations, totals
from mailer.vocabulary import WaitsFor

_FIRST_DUE: Final = """
SELECT min(due_at_ms) FROM mails WHERE transport = ? AND waits_for = ? AND lane = ?
"""

_DEPTHS: Final = f"""
SELECT transport, lane, {", ".join(QUEUE_COUNTERS)} FROM queue_depths ORDER BY transport, lane
"""

_UNCERTAIN: Final = """
SELECT count(*) FROM mails INDEXED BY mails_settle WHERE settle_at_ms IS NOT NULL
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
    accepted: int
    """All there ever were."""
    came_into: Mapping[str, int]
    """How often its mails came into each state but `sending`."""

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
        return [
            Depth(queue, lane, mails, accepted, dict(zip(QUEUE_STATES, came, strict=True)))
            for queue, lane, mails, accepted, *came in self._db.all(_DEPTHS)
        ]

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

    def first_due_at_ms(self, queue: str, lane: str) -> int | None:
        """When the mail of a queue that has waited longest was due, or the next one will be."""
        rows = (
            self._db.one(_FIRST_DUE, (queue, waits_for, lane))
            for waits_for in (WaitsFor.TURN, WaitsFor.DUE_TIME, WaitsFor.ALONE)
        )
        return min((row[0] for row in rows if row and row[0] is not None), default=None)

    def oldest_due_at_ms(self, now_ms: int) -> int | None:
        """When the mail that has waited longest was due."""
        first = (self.first_due_at_ms(depth.queue, depth.lane) for depth in self.depths())
        return min(
            (at_ms for at_ms in first if at_ms is not None and at_ms <= now_ms), default=None
        )

    def uncertain(self) -> int:
        """Mails of which nobody knows whether they were taken."""
        row = self._db.one(_UNCERTAIN)
        return int(row[0]) if row else 0

    def commits_and_backup(self) -> tuple[int, int | None]:
        """Transactions ever made, and when the last good back-up was begun."""
        row = self._db.one("SELECT commits, last_backup_at_ms FROM meta")
        return row if row else (0, None)

    def measured(self) -> Iterator[tuple[str, tuple[str, ...], float | Durations]]:
        """Each metric that processes count or time, with its labels' values and what it came to."""
        return totals(self._db)
