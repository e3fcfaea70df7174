"""What providers ask for and only a setting can allow.

Anybody can make us record such a thing: so few are kept, and one is written at most every ten
seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from mailer.store.connection import Database

KEPT: Final = 5
SHOWN_MS: Final = 3 * 24 * 3600 * 1000
"""So long SNS's offer to confirm a subscription is good."""
EVERY_MS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Approval:
    """`value` has to be added to the variable `setting`, if what asked is one's own."""

    setting: str
    value: str
    asked_at_ms: int


class Approvals:
    """The newest ones."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def due(self, now_ms: int) -> bool:
        """Whether one may be written again; asked before a transaction is begun for it."""
        row = self._db.one(
            "SELECT max(asked_at_ms) FROM approvals WHERE asked_at_ms <= ?", (now_ms,)
        )
        return row is None or row[0] is None or row[0] <= now_ms - EVERY_MS

    def ask(self, setting: str, value: str, now_ms: int) -> None:
        if not self.due(now_ms):
            return
        self._db.run(
            "INSERT INTO approvals (setting, value, asked_at_ms) VALUES (?, ?, ?)"
            " ON CONFLICT DO UPDATE SET asked_at_ms = excluded.asked_at_ms",
            (setting, value, now_ms),
        )
        self._db.run(
            "DELETE FROM approvals WHERE (setting, value) NOT IN"
            " (SELECT setting, value FROM approvals ORDER BY asked_at_ms DESC LIMIT ?)",
            (KEPT,),
        )

    def all(self, now_ms: int) -> list[Approval]:
        """Those that were asked for not long ago, newest first."""
        rows = self._db.all(
            "SELECT setting, value, asked_at_ms FROM approvals WHERE asked_at_ms > ?"
            " ORDER BY asked_at_ms DESC",
            (now_ms - SHOWN_MS,),
        )
        return [Approval(*row) for row in rows]
