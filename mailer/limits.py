"""What LIMITS says: how many recipients any window may hold, by a transport or by it to a domain.

A limit belongs to a *way*: `ses`, or `ses@gmail.com` for the mail of that transport to that domain.
What is handed over counts against every limit of its ways, and the lowest holds. How they are kept
is told by `pacing` (windows of a second) and `windows` (longer ones).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Final

from email_validator import EmailNotValidError, validate_email

ACCEPTED_LIMITS: Final = (
    "TRANSPORT=N/UNIT or TRANSPORT@DOMAIN=N/UNIT with units s, min, h, day, several limits"
    " separated by commas, several entries by ;, as ses=100/s, 50000/day; ses@gmail.com=20/s; to"
    " warm up N/UNIT is N..N/UNIT over DAYSd from YYYY-MM-DD"
)

SECONDS_IN: Final = {"s": 1, "min": 60, "h": 3600, "day": 86400}
LONGEST_S: Final = 31 * 86400
DAY_US: Final = 86_400_000_000

_ENTRY: Final = re.compile(r"([^\s@=]+)(?:@([^\s@=]+))?\s*=(.*)")
_LIMIT: Final = re.compile(
    r"(?:([0-9]{1,12})\.\.)?([0-9]{1,12})\s*/\s*([0-9]{0,6})\s*(s|min|h|day)"
    r"(?:\s+over\s+([0-9]{1,4})d\s+from\s+([0-9]{4}-[0-9]{2}-[0-9]{2}))?"
)


@dataclass(frozen=True, slots=True)
class WarmUp:
    """From `first` recipients on, each day by the same factor more, for so many days."""

    first: int
    days: int
    begins_us: int


@dataclass(frozen=True, slots=True)
class Cap:
    """At most `recipients` in any window of `window_s` seconds; fewer while it warms up."""

    recipients: int
    window_s: int
    written: str
    """As it stands in LIMITS."""
    warm_up: WarmUp | None = None

    def at(self, now_us: int) -> int:
        """How many recipients a window that ends then may hold, by the clock of `windows`."""
        if self.warm_up is None:
            return self.recipients
        days = min(max(0, (now_us - self.warm_up.begins_us) // DAY_US), self.warm_up.days)
        growth = self.recipients / self.warm_up.first
        return int(self.warm_up.first * growth ** (days / self.warm_up.days) + 1e-9)


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of each way that has any."""

    ways: Mapping[str, tuple[Cap, ...]] = field(default_factory=dict)
    domains: frozenset[str] = frozenset()
    """Those limited by some transport: their mail waits in queues of its own."""

    def of(self, way: str) -> tuple[Cap, ...]:
        return self.ways.get(way, ())

    def per_second(self, way: str) -> int | None:
        """How many recipients it may be handed in a second; None: nothing is said of that."""
        return next((cap.recipients for cap in self.of(way) if cap.window_s == 1), None)

    def own_queue(self, queue: str, address: str) -> str:
        """Where a mail to that address waits, of those in `queue`: apart if its domain is here."""
        domain = address.rpartition("@")[2]
        return f"{queue}@{domain}" if domain in self.domains and "@" not in queue else queue

    def __str__(self) -> str:
        entries = (f"{way}={', '.join(c.written for c in caps)}" for way, caps in self.ways.items())
        return "; ".join(entries)


def parse_limits(value: str) -> Limits:
    """What LIMITS says. Raises ValueError naming the entry that is wrong."""
    found: dict[str, tuple[Cap, ...]] = {}
    for entry in filter(None, map(str.strip, value.split(";"))):
        match = _ENTRY.fullmatch(entry)
        if not match:
            raise ValueError(f"`{entry}` is not transport=limits or transport@domain=limits")
        transport, domain, limits = match.groups()
        way = f"{transport}@{_ascii(domain, entry)}" if domain else transport
        if way in found:
            raise ValueError(f"{way} has two entries: put its limits into one")
        caps = tuple(_cap(limit.strip(), entry) for limit in limits.split(","))
        if len({cap.window_s for cap in caps}) < len(caps):
            raise ValueError(f"`{entry}` has two limits for windows of the same length")
        found[way] = caps
    return Limits(found, frozenset(way.partition("@")[2] for way in found if "@" in way))


def _ascii(domain: str, entry: str) -> str:
    """As recipients' domains are stored: lower case, A-labels (RFC 5891)."""
    try:
        found = validate_email(f"x@{domain}", check_deliverability=False)
    except EmailNotValidError as error:
        raise ValueError(f"`{entry}`: {domain} is no domain mail goes to: {error}") from None
    return found.ascii_domain.lower()


def _cap(written: str, entry: str) -> Cap:
    match = _LIMIT.fullmatch(written)
    if not match:
        raise ValueError(f"`{entry}`: `{written}` is no limit")
    first, number, units, unit, days, begins = match.groups()
    recipients, window_s = int(number), int(units or 1) * SECONDS_IN[unit]
    if not recipients or not 1 <= window_s <= LONGEST_S:
        raise ValueError(f"`{entry}`: `{written}` is not 1 or more in a window of 1 s to 31 days")
    if (first is None) != (days is None):
        raise ValueError(f"`{entry}`: `{written}` is half a warm-up")
    if days is not None and window_s == 1:
        raise ValueError(f"`{entry}`: `{written}`: a limit a second does not warm up")
    if days is None:
        return Cap(recipients, window_s, written)
    if not 0 < int(first) <= recipients or not int(days):
        raise ValueError(f"`{entry}`: `{written}` does not grow from 1 or more, over 1 day or more")
    return Cap(recipients, window_s, written, WarmUp(int(first), int(days), _begin(begins, entry)))


def _begin(day: str, entry: str) -> int:
    """The beginning of a day in the server's zone, in microseconds since 1970."""
    try:
        midnight = datetime.combine(date.fromisoformat(day), datetime.min.time()).astimezone()
    except (ValueError, OverflowError):
        raise ValueError(f"`{entry}`: there is no day {day}") from None
    return int(midnight.timestamp()) * 1_000_000
