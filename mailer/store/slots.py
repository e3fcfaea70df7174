"""Slots of the rate on record, so that the limit holds over all processes and their restarts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from mailer.pacing import TOLERANCE_US, Granted, Limit, Slot, earliest_us, plan
from mailer.store.connection import Database

UNLIMITED_SLOT: Final = 0
"""The id of slots of a transport without a limit: nothing is recorded of them."""

_RECENT: Final = """
SELECT until_us, recipients FROM slots WHERE transport = ? AND until_us > ? ORDER BY until_us
"""

_NEXT: Final = "SELECT max(next_us) FROM slots WHERE transport = ? AND until_us > ?"

_INSERT: Final = """
INSERT INTO slots (transport, sender, at_us, until_us, recipients, next_us)
VALUES (?, ?, ?, ?, ?, ?)
"""


@dataclass(frozen=True, slots=True)
class UsedSlot:
    """A slot whose mails have been handed over, the last of them at `at_us`."""

    id: int
    at_us: int
    recipients: int
    """0: given up, nothing was handed over in it."""


class Slots:
    """Granting slots, and what became of them."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def plan(
        self, transport: str, limit: Limit | None, *, now_us: int, recipients: int, batch_size: int
    ) -> list[Slot]:
        """What may be granted now; nothing is recorded yet."""
        if limit is None:
            sizes = [min(batch_size, recipients - n) for n in range(0, recipients, batch_size)]
            return [Slot(now_us, now_us + TOLERANCE_US, size, now_us) for size in sizes]
        recent, next_us = self._on_record(transport, limit, now_us)
        return plan(
            recent,
            limit=limit,
            next_us=next_us,
            now_us=now_us,
            recipients=recipients,
            batch_size=batch_size,
        )

    def next_at_us(self, transport: str, limit: Limit | None, now_us: int) -> int:
        """From when on `plan` may grant something."""
        if limit is None:
            return now_us
        recent, next_us = self._on_record(transport, limit, now_us)
        return earliest_us(recent, limit=limit, next_us=next_us, now_us=now_us)

    def _on_record(self, transport: str, limit: Limit, now_us: int) -> tuple[list[Granted], int]:
        since_us = now_us - limit.window_us
        recent = [Granted(*row) for row in self._db.all(_RECENT, (transport, since_us))]
        (next_us,) = self._db.one(_NEXT, (transport, since_us)) or (None,)
        return recent, next_us or 0

    def record(self, transport: str, sender: int, slot: Slot) -> int:
        """Put a granted slot on record; its id."""
        return self._db.insert(
            _INSERT,
            (transport, sender, slot.at_us, slot.until_us, slot.recipients, slot.next_us),
        )

    def used(self, slots: Sequence[UsedSlot]) -> None:
        """Replace latest possible uses by actual ones; give back what was not used."""
        self._db.many(
            "UPDATE slots SET until_us = ?, recipients = ? WHERE id = ?",
            [(slot.at_us, slot.recipients, slot.id) for slot in slots],
        )

    def give_back(self, sender: int, since_us: int) -> None:
        """A sender that ended at `since_us` can't have used the slots that begin later."""
        self._db.run("DELETE FROM slots WHERE sender = ? AND at_us > ?", (sender, since_us))

    def to_forget(self, before_us: int) -> bool:
        """Whether `forget` would find any: a read, for the idle."""
        return (
            self._db.one("SELECT 1 FROM slots WHERE until_us < ? LIMIT 1", (before_us,)) is not None
        )

    def forget(self, before_us: int) -> None:
        """Remove slots too old to count in any window."""
        self._db.run("DELETE FROM slots WHERE until_us < ?", (before_us,))

    def carry_over(self, now_us: int) -> None:
        """After a boot the monotonic clock began anew: count every slot as used at this instant."""
        self._db.run("UPDATE slots SET at_us = ?, until_us = ?, next_us = ?", (now_us,) * 3)
