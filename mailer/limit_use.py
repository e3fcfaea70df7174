"""How far each limit is used: what the windows of its way hold now, and when they take more.

Senders ask it before they claim; `status`, `doctor` and the metrics show the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from mailer.limits import Cap
from mailer.pacing import WINDOW_US
from mailer.settings import Settings
from mailer.store import Store
from mailer.windows import frees_us, left


@dataclass(frozen=True, slots=True)
class WindowUse:
    """A limit over more than a second."""

    way: str
    cap: Cap
    most: int
    """What the limit is now: less than `cap.recipients` while it warms up."""
    counts: Mapping[int, int]
    """Recipients in each hundredth of the window that counts."""
    ahead_us: int
    """What the clock of the windows is ahead of the boot's."""

    @property
    def used(self) -> int:
        return sum(self.counts.values())

    def left(self, reserve: float = 0.0) -> int:
        """How many more recipients may be handed over, of all but the share `reserve`."""
        return left(self._within(reserve), self.counts)

    def opens_us(self, reserve: float = 0.0) -> int:
        """From when on that is one at least, on the boot's clock; 0 when it is now."""
        at_us = frees_us(self._within(reserve), self.counts, self.cap.window_s)
        return 0 if at_us is None else at_us - self.ahead_us

    def _within(self, reserve: float) -> int:
        return max(1, self.most - int(self.most * reserve))


def long_windows(
    store: Store, settings: Settings, ways: Iterable[str], now_us: int
) -> Iterator[WindowUse]:
    """The limits over more than a second of these ways."""
    for way in ways:
        for cap in settings.limits.of(way):
            if cap.window_s > 1:
                at_us = store.windows.now_us(now_us)
                counts = store.windows.counts(way, cap.window_s, at_us)
                yield WindowUse(way, cap, cap.at(at_us), counts, at_us - now_us)


@dataclass(frozen=True, slots=True)
class LimitUse:
    """One limit as people are shown it."""

    way: str
    limit: str
    """As it stands in LIMITS."""
    most: int
    used: int
    waiting: int
    """Unfinished mails that are to go this way."""
    opens_us: int = 0
    """From when on it lets one more go, on the boot's clock; past: it does."""
    opens_for_bulk_us: int = 0
    """The same for bulk mail, which leaves a part for interactive mail."""


def limit_uses(store: Store, settings: Settings, now_us: int) -> Iterator[LimitUse]:
    """Every limit that LIMITS names."""
    depths = store.status.depths()
    for way, caps in settings.limits.ways.items():
        transport, _, domain = way.partition("@")
        waiting = sum(
            depth.mails
            for depth in depths
            if depth.transport == transport and domain in {"", depth.domain}
        )
        for cap in caps:
            if cap.window_s == 1:
                used = store.slots.used_since(way, now_us - WINDOW_US)
                yield LimitUse(way, cap.written, cap.recipients, used, waiting)
        for use in long_windows(store, settings, (way,), now_us):
            opens = (use.opens_us(), use.opens_us(settings.interactive_reserve))
            yield LimitUse(way, use.cap.written, use.most, use.used, waiting, *opens)
