"""The rate limiter: a pure function from the slots on record to the slots that may be granted.

Promise: at hand-over, no window of one second holds more recipients than the limit, over all
processes, and mail that waits uses nearly all of it. So with each limit, where a slot is under
several: that of a transport, and that of a domain. Every slot says from when (`at_us`) and
until when (`until_us`) it may be used; once used, `until_us` is the instant of its use. A new
slot is granted only where the slots that may still be used within the window before it leave
room, so the rule is a sum over what is on record, not an estimate, and it holds in whatever
order senders come. Slots are spread evenly, since a burst followed by a pause would satisfy the
rule too but make an interactive mail wait for the pause.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

WINDOW_US: Final = 1_000_000
GUARD_US: Final = 8_000
"""What the window is longer than a second, for what passes between our clock and the wire."""
HORIZON_US: Final = 100_000
"""How far ahead slots are granted: so long a cancel or an interactive mail may have to wait."""
TOLERANCE_US: Final = 250_000
"""How late a slot may be used; later it is given up."""
CATCH_UP_US: Final = 50_000
"""How far behind its even spacing a late sender may be and still make up for it."""
SHARED_SLOT_US: Final = 5_000
"""Calls of one recipient that start within so short a time share a slot."""
BACK_OFF: Final = 0.1
"""The part of the rate that is given up when a provider throttles."""
REGAINED_US: Final = 60_000_000
"""How long it takes to come back to the rate that was too much."""


@dataclass(frozen=True, slots=True)
class Limit:
    """So many recipients (`capacity`) in any window of `window_us`."""

    capacity: int
    window_us: int

    @classmethod
    def per_second(cls, rate: float) -> Limit:
        """Below one a second the window grows, so that one mail fits in it."""
        if rate >= 1:
            return cls(math.floor(rate), WINDOW_US + GUARD_US)
        return cls(1, math.ceil(WINDOW_US / rate) + GUARD_US)


@dataclass(frozen=True, slots=True)
class Lesson:
    """A provider throttled us: at `at_us` it would not take `rate` recipients a second."""

    rate: float
    at_us: int


def learnt_rate(limit: float, lesson: Lesson | None, now_us: int) -> float:
    """The rate to keep now, at most `limit`, where a provider may take less than it says.

    A tenth below what was too much; near it again within a minute, held there a while, then beyond
    it ever faster (the cubic of RFC 9438, section 4.2). So it costs a refused call or two a minute
    to keep nearly all of what is taken, and minutes to find that everything is taken again.
    """
    if lesson is None:
        return limit
    since = (now_us - lesson.at_us) / REGAINED_US
    return min(limit, lesson.rate * (1 + BACK_OFF * (since - 1) ** 3))


@dataclass(frozen=True, slots=True)
class Granted:
    """A slot on record: its latest possible use, or its actual one, and how many recipients."""

    until_us: int
    recipients: int


@dataclass(frozen=True, slots=True)
class Slot:
    """The right to hand over `recipients` mails between `at_us` and `until_us`."""

    at_us: int
    until_us: int
    recipients: int
    next_us: tuple[int, ...]
    """Where the even spacing of each limit has the slot after this one."""

    def holding(self, recipients: int, limits: Iterable[Limit]) -> Slot:
        """The same slot for fewer recipients, with the next one that much earlier."""
        spare = self.recipients - recipients
        next_us = tuple(
            at_us - spare * limit.window_us // limit.capacity
            for at_us, limit in zip(self.next_us, limits, strict=True)
        )
        return Slot(self.at_us, self.until_us, recipients, next_us)


@dataclass(frozen=True, slots=True)
class Pace:
    """One limit and what is on record of it."""

    limit: Limit
    recent: Sequence[Granted]
    """The slots that may still be in the window."""
    next_us: int
    """Where the even spacing has the next one."""


def recipients_a_slot(limit: Limit, batch_size: int) -> int:
    """How many recipients share one slot, for a transport that takes `batch_size` a call."""
    share_us = HORIZON_US if batch_size > 1 else SHARED_SLOT_US
    fitting = limit.capacity * share_us // limit.window_us
    return max(1, min(fitting, batch_size) if batch_size > 1 else fitting)


def plan(paces: Sequence[Pace], *, now_us: int, recipients: int, batch_size: int) -> list[Slot]:
    """The slots that may be granted now for up to `recipients` mails, earliest first.

    Each lies within all of the limits, of which there is at least one. Nothing is granted beyond
    `HORIZON_US`; an empty answer means: ask again at `earliest_us`.
    """
    windows = [_Window(pace, now_us) for pace in paces]
    most = min(recipients_a_slot(pace.limit, batch_size) for pace in paces)
    slots: list[Slot] = []
    while recipients > 0:
        # Each limit goes on from where it would have let one go: what another keeps back leaves
        # room for those that this other does not concern.
        own_us = [window.opens_us(now_us) for window in windows]
        at_us = _open_us(windows, now_us)
        if at_us is None or at_us > now_us + HORIZON_US:
            break
        share = min(recipients, most, *(window.room for window in windows))
        next_us = tuple(
            window.take(share, opens_us or at_us)
            for window, opens_us in zip(windows, own_us, strict=True)
        )
        slots.append(Slot(at_us, at_us + TOLERANCE_US, share, next_us))
        recipients -= share
    return slots


def earliest_us(paces: Sequence[Pace], *, now_us: int) -> int:
    """From when on `plan` would grant something."""
    at_us = _open_us([_Window(pace, now_us) for pace in paces], now_us)
    return (at_us or now_us) - HORIZON_US


def _open_us(windows: Sequence[_Window], now_us: int) -> int | None:
    """The earliest instant at which each has room for one; None when it can't be known yet."""
    at_us, before = now_us, None
    while at_us != before:
        before = at_us
        for window in windows:
            opens_us = window.opens_us(at_us)
            if opens_us is None:
                return None
            at_us = opens_us
    return at_us


class _Window:
    """The window that ends with the slot being planned: how many more recipients it takes."""

    def __init__(self, pace: Pace, now_us: int) -> None:
        self._leaving = sorted(pace.recent, key=lambda granted: granted.until_us)
        self._limit = pace.limit
        self._paced_us = max(pace.next_us, now_us - CATCH_UP_US)
        self._left = pace.limit.capacity - sum(granted.recipients for granted in pace.recent)
        self.room = self._left
        """At the instant that `opens_us` told last."""

    def opens_us(self, from_us: int) -> int | None:
        """The earliest instant from then on with room for one; None when it can't be known yet."""
        at_us = max(from_us, self._paced_us)
        self.room = self._left
        for granted in self._leaving:
            left_us = granted.until_us + self._limit.window_us
            if left_us > at_us:
                if self.room > 0:
                    break
                at_us = left_us
            self.room += granted.recipients
        return at_us if self.room > 0 else None

    def take(self, recipients: int, at_us: int) -> int:
        """So many are granted, from that instant on; where the even spacing has the next ones."""
        spacing_us = recipients * self._limit.window_us // self._limit.capacity
        self._paced_us = max(self._paced_us, at_us - CATCH_UP_US) + spacing_us
        self._left -= recipients
        return self._paced_us
