"""What is counted and timed for `/metrics`, over all processes and their restarts.

Gathered in memory, and added to the table by a transaction that writes anyway, at most once a
second: so it costs a commit next to nothing, and a process that is killed takes along what it has
gathered since its last such commit. What was counted within a transaction that is undone is not
counted. The counts of mails are exact; they stand with the queues, see `counters`.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from math import inf
from operator import itemgetter
from typing import TYPE_CHECKING, Final

import msgspec

from mailer.metrics import BOUNDS_S, Metric

if TYPE_CHECKING:
    from mailer.store.connection import Database

WRITE_EVERY_S: Final = 1.0

_BOUNDS_US: Final = tuple(int(bound_s * 1e6) for bound_s in BOUNDS_S)
_COUNT: Final = 0
_SUM_US: Final = -1
_UNBOUNDED_US: Final = 2**62

Key = tuple[str, tuple[str, ...], int]
"""Metric, its labels' values, and `up_to_us`: the bucket's bound, or one of the above."""

_ADD: Final = """
INSERT INTO measures (metric, labels, up_to_us, total) VALUES (?, ?, ?, ?)
ON CONFLICT DO UPDATE SET total = total + excluded.total
"""


_TOTALS: Final = "SELECT metric, labels, up_to_us, total FROM measures ORDER BY metric, labels"


@dataclass(frozen=True, slots=True)
class Durations:
    """How many lasted so long."""

    up_to_s: tuple[tuple[float, float], ...]
    """For each of `BOUNDS_S`, and without bound, how many lasted no longer."""
    sum_s: float


class Measures:
    """Those of one process, until they are added to what all have measured."""

    def __init__(self) -> None:
        self._gathered: dict[Key, int] = {}
        self._written_s = -WRITE_EVERY_S

    def add(self, counter: Metric, labels: tuple[str, ...], number: int = 1) -> None:
        """Count something."""
        key = (counter.name, labels, _COUNT)
        self._gathered[key] = self._gathered.get(key, 0) + number

    def observe(
        self, histogram: Metric, labels: tuple[str, ...], took_us: int, number: int = 1
    ) -> None:
        """Count something (or a number of them) that took so long."""
        took_us = max(0, took_us)  # a wall clock that was set back
        place = bisect_left(_BOUNDS_US, took_us)
        up_to_us = _BOUNDS_US[place] if place < len(_BOUNDS_US) else _UNBOUNDED_US
        for key, value in (
            ((histogram.name, labels, up_to_us), number),
            ((histogram.name, labels, _SUM_US), took_us * number),
        ):
            self._gathered[key] = self._gathered.get(key, 0) + value

    def hasten(self) -> None:
        """Let the next commit take what there is, however short ago the last did."""
        self._written_s = -WRITE_EVERY_S

    def mark(self) -> dict[Key, int]:
        """What `back_to` goes back to, when a transaction or a part of it is undone."""
        return self._gathered.copy()

    def back_to(self, mark: dict[Key, int]) -> None:
        self._gathered = mark

    def write(self, db: Database) -> None:
        """Add what was gathered, in the running transaction, if it is time."""
        now_s = time.monotonic()
        if not self._gathered or now_s < self._written_s + WRITE_EVERY_S:
            return
        rows = [
            (metric, msgspec.json.encode(labels).decode(), up_to_us, float(number))
            for (metric, labels, up_to_us), number in self._gathered.items()
        ]
        db.many(_ADD, rows)
        self._gathered = {}
        self._written_s = now_s


def totals(db: Database) -> Iterator[tuple[str, tuple[str, ...], float | Durations]]:
    """What all processes have added: metric, labels' values, and count or durations."""
    for (metric, labels), rows in groupby(db.all(_TOTALS), key=itemgetter(0, 1)):
        by_bound = {up_to_us: total for _, _, up_to_us, total in rows}
        counted = by_bound.get(_COUNT)
        yield (
            metric,
            tuple(msgspec.json.decode(labels)),
            _durations(by_bound) if counted is None else counted,
        )


def _durations(by_bound: dict[int, float]) -> Durations:
    """Also of bounds that another release had."""
    sum_s = by_bound.pop(_SUM_US, 0.0) / 1e6
    bounds = zip(BOUNDS_S, _BOUNDS_US, strict=True)
    up_to_s = [
        (bound_s, sum(number for bound, number in by_bound.items() if bound <= bound_us))
        for bound_s, bound_us in (*bounds, (inf, _UNBOUNDED_US))
    ]
    return Durations(tuple(up_to_s), sum_s)
