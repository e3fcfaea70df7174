"""What the windows of limits over more than a second have held, so that those hold over all
processes, their restarts, and the machine's.

They go by a clock of their own: the boot's, moved once at the first start after a boot to what the
wall clock says then. Nobody can set it while the machine is up, and it never goes back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final

from mailer.limits import Limits
from mailer.store.connection import Database
from mailer.windows import first_part, part

_COUNTS: Final = """
SELECT part, recipients FROM window_counts WHERE way = ? AND window_s = ? AND part >= ?
"""

# A limit may be newer than the slot of which it is given something back.
_ADD: Final = """
INSERT INTO window_counts (way, window_s, part, recipients) VALUES (?1, ?2, ?3, max(0, ?4))
ON CONFLICT DO UPDATE SET recipients = max(0, recipients + ?4)
"""

# A part is `window_s` / 100 long; a window it has left by another whole one counts it no more.
_FORGET: Final = "DELETE FROM window_counts WHERE (part + 202) * window_s * 10000 < ?"

_LAST: Final = "SELECT max(part * window_s) * 10000 FROM window_counts"


class Windows:
    """Recipients in each hundredth of the windows of each way that has such limits."""

    def __init__(self, db: Database, limits: Limits) -> None:
        self._db = db
        self._lengths_s = {
            way: tuple(cap.window_s for cap in caps if cap.window_s > 1)
            for way, caps in limits.ways.items()
        }
        self.kept = any(self._lengths_s.values())
        """Whether there are any such limits."""

    def counted(self, ways: Iterable[str]) -> bool:
        """Whether one of these ways has such a limit."""
        return any(self._lengths_s.get(way) for way in ways)

    def now_us(self, mono_us: int) -> int:
        """The clock of the windows at an instant of the boot's; microseconds since 1970."""
        (ahead_us,) = self._db.one("SELECT windows_ahead_us FROM meta") or (None,)
        return mono_us + (ahead_us or 0)

    def begin(self, *, new_boot: bool, wall_ms: int, mono_us: int) -> None:
        """Find the clock's place after a boot, at or behind what is on record."""
        (ahead_us,) = self._db.one("SELECT windows_ahead_us FROM meta") or (None,)
        if ahead_us is None or new_boot:
            (last_us,) = self._db.one(_LAST) or (None,)
            ahead_us = max(wall_ms * 1000, last_us or 0) - mono_us
            self._db.run("UPDATE meta SET windows_ahead_us = ?", (ahead_us,))

    def counts(self, way: str, window_s: int, now_us: int) -> dict[int, int]:
        """The hundredths that count in the window that ends now, by this clock."""
        since = first_part(window_s, now_us)
        return dict(self._db.all(_COUNTS, (way, window_s, since)))

    def add(self, uses: Iterable[tuple[str, int, int]]) -> None:
        """(way, instant of the boot's clock, recipients), less than 0 to take some back."""
        ahead_us = self.now_us(0)
        changes: Counter[tuple[str, int, int]] = Counter()
        for way, at_us, recipients in uses:
            for window_s in self._lengths_s.get(way, ()):
                changes[way, window_s, part(window_s, at_us + ahead_us)] += recipients
        self._db.many(_ADD, [(*where, change) for where, change in changes.items() if change])

    def forget(self, now_us: int) -> None:
        """Remove what no window counts any more."""
        self._db.run(_FORGET, (now_us,))
