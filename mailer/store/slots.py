"""Slots of the rate on record, so that the limit holds over all processes and their restarts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from mailer.pacing import TOLERANCE_US, Granted, Limit, Pace, Slot, earliest_us, plan
from mailer.store.connection import Database
from mailer.store.windows import Windows

UNLIMITED_SLOT: Final = 0
"""The id of slots of a transport without a limit: nothing is recorded of them."""

_RECENT: Final = """
SELECT until_us, recipients FROM slots WHERE transport = ? AND until_us > ? ORDER BY until_us
"""

_NEXT: Final = "SELECT max(next_us) FROM slots WHERE transport = ? AND until_us > ?"

_RECENT_OF_DOMAIN: Final = """
SELECT until_us, recipients FROM slots WHERE domain_way = ? AND until_us > ? ORDER BY until_us
"""

_NEXT_OF_DOMAIN: Final = """
SELECT max(domain_next_us) FROM slots WHERE domain_way = ? AND until_us > ?
"""

_INSERT: Final = """
INSERT INTO slots
    (transport, sender, at_us, until_us, recipients, next_us, domain_way, domain_next_us)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""

_USED: Final = """
SELECT s.transport, s.domain_way, s.until_us, s.recipients, value ->> 1, value ->> 2
FROM json_each(?) CROSS JOIN slots s ON s.id = value ->> 0
"""

_GIVEN_BACK: Final = """
DELETE FROM slots WHERE sender = ? AND at_us > ?
RETURNING transport, domain_way, until_us, recipients
"""


@dataclass(frozen=True, slots=True)
class UsedSlot:
    """A slot whose mails have been handed over, the last of them at `at_us`."""

    id: int
    at_us: int
    recipients: int
    """0: given up, nothing was handed over in it."""


class Slots:
    """Granting slots, and what became of them.

    A slot belongs to a transport and, when a domain by it has a limit of its own, to that way too.
    """

    def __init__(self, db: Database, windows: Windows) -> None:
        self._db = db
        self._windows = windows

    def plan(
        self, rates: Mapping[str, Limit], *, now_us: int, recipients: int, batch_size: int
    ) -> list[Slot]:
        """What may be granted now within the limits of these ways; nothing is recorded yet."""
        if not rates:
            sizes = [min(batch_size, recipients - n) for n in range(0, recipients, batch_size)]
            # All may begin now; each at an instant of its own, so that it is known which have.
            slots = enumerate(sizes, now_us - len(sizes))
            return [Slot(at_us, now_us + TOLERANCE_US, size, ()) for at_us, size in slots]
        paces = [self._on_record(way, limit, now_us) for way, limit in rates.items()]
        return plan(paces, now_us=now_us, recipients=recipients, batch_size=batch_size)

    def next_at_us(self, rates: Mapping[str, Limit], now_us: int) -> int:
        """From when on `plan` may grant something."""
        if not rates:
            return now_us
        paces = [self._on_record(way, limit, now_us) for way, limit in rates.items()]
        return earliest_us(paces, now_us=now_us)

    def used_since(self, way: str, since_us: int) -> int:
        """Recipients whose (latest possible) use is later than that."""
        return sum(granted.recipients for granted in self._recent(way, since_us))

    def _on_record(self, way: str, limit: Limit, now_us: int) -> Pace:
        since_us = now_us - limit.window_us
        sql = _NEXT_OF_DOMAIN if "@" in way else _NEXT
        (next_us,) = self._db.one(sql, (way, since_us)) or (None,)
        return Pace(limit, self._recent(way, since_us), next_us or 0)

    def _recent(self, way: str, since_us: int) -> list[Granted]:
        sql = _RECENT_OF_DOMAIN if "@" in way else _RECENT
        return [Granted(*row) for row in self._db.all(sql, (way, since_us))]

    def record(
        self, ways: Sequence[str], rates: Mapping[str, Limit], sender: int, slot: Slot
    ) -> int:
        """Put a granted slot on record; its id. A slot that no limit counts leaves none."""
        if not rates and not self._windows.counted(ways):
            return UNLIMITED_SLOT
        transport, domain_way = (*ways, None)[:2]
        next_us = dict(zip(rates, slot.next_us, strict=True))
        paced_us = [next_us.get(way or "", 0) for way in (transport, domain_way)]
        self._windows.add((way, slot.until_us, slot.recipients) for way in ways)
        times = (slot.at_us, slot.until_us, slot.recipients)
        return self._db.insert(
            _INSERT, (transport, sender, *times, paced_us[0], domain_way, paced_us[1])
        )

    def used(self, slots: Sequence[UsedSlot]) -> None:
        """Replace latest possible uses by actual ones; give back what was not used."""
        if not slots:
            return
        rows = msgspec.json.encode([(s.id, s.at_us, s.recipients) for s in slots]).decode()
        if self._windows.kept:
            for *ways, until_us, granted, at_us, used in self._db.all(_USED, (rows,)):
                self._windows.add(
                    change
                    for way in filter(None, ways)
                    for change in ((way, until_us, -granted), (way, at_us, used))
                )
        self._db.many(
            "UPDATE slots SET until_us = ?, recipients = ? WHERE id = ?",
            [(slot.at_us, slot.recipients, slot.id) for slot in slots],
        )

    def give_back(self, sender: int, since_us: int) -> None:
        """A sender that is dead has not begun with slots later than `since_us`."""
        for *ways, until_us, recipients in self._db.all(_GIVEN_BACK, (sender, since_us)):
            self._windows.add((way, until_us, -recipients) for way in filter(None, ways))

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
        self._db.run(
            "UPDATE slots SET at_us = ?1, until_us = ?1, next_us = ?1, domain_next_us = ?1",
            (now_us,),
        )
