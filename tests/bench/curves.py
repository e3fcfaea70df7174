"""Curves: figures measured at several sizes, the formula each follows, and its picture.

A row whose name ends in `, stored mails: 1,000`, `, senders: 2` or `, minutes: 3` is a point of the
curve that its other words name; so results.json alone has all that is drawn.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tests.bench import plot
from tests.bench.arithmetic import Fit, Points, line, power_law, shared

STORED: Final = "stored mails"
SENDERS: Final = "senders"
MINUTES: Final = "minutes"

_POINT: Final = re.compile(rf"(.+), ({STORED}|{SENDERS}|{MINUTES}): ([\d.,]+)")


def point(what: str, axis: str, at: float) -> str:
    """The name of a figure that is a point of a curve."""
    return f"{what}, {axis}: {at:,.10g}"


def number(value: float) -> str:
    """With as many digits as mean something."""
    return f"{value:,.3g}" if abs(value) < 100 else f"{value:,.0f}"


def is_point(row: Mapping[str, Any]) -> bool:
    return bool(_POINT.fullmatch(row["name"]))


@dataclass(frozen=True)
class Curve:
    """Points of one figure over one axis."""

    figure: int
    what: str
    axis: str
    unit: str
    points: Points

    @property
    def title(self) -> str:
        return f"{self.what} over {self.axis}"

    @property
    def file(self) -> str:
        words = re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")
        return f"{self.figure}-{words}.svg"

    @property
    def fit(self) -> Fit:
        if self.axis == STORED:
            return power_law(self.points)
        return shared(self.points) if self._is_rate_of_senders else line(self.points)

    @property
    def _is_rate_of_senders(self) -> bool:
        return self.axis == SENDERS and self.unit.endswith("/s")

    def formula(self) -> str:
        """In words that need no other explanation."""
        fit = self.fit
        off = f"(the point that fits worst is {fit.worst:.0%} off)"
        if self.axis == STORED:
            tenfold = 10**fit.b
            return (
                f"{number(fit.a)} {self.unit} · n^{fit.b:.3f}:"
                f" ten times the stored mails change it by a factor of {tenfold:.2f} {off}"
            )
        if self._is_rate_of_senders:
            parts = f"1 ÷ ({fit.a * 1e6:.1f} µs + {fit.b * 1e6:.1f} µs ÷ n)"
            end = f"{1 / fit.a:,.0f} {self.unit}" if fit.a > 0 else "no bound within these senders"
            return f"{parts}, which goes towards {end} {off}"
        by = {SENDERS: ("a sender", 1), MINUTES: ("an hour", 60)}[self.axis]
        return f"{number(fit.a)} {self.unit} and {fit.b * by[1]:+,.3g} {self.unit} {by[0]} {off}"

    def svg(self) -> str:
        return plot.svg(
            self.title,
            self.axis,
            self.unit,
            self.points,
            self.fit.at,
            logarithmic=self.axis == STORED,
        )


def curves(rows: Iterable[Mapping[str, Any]]) -> list[Curve]:
    """All curves that have two points or more."""
    found: dict[tuple[int, str, str, str], list[tuple[float, float]]] = {}
    for row in rows:
        if match := _POINT.fullmatch(row["name"]):
            what, axis, at = match.groups()
            key = (row["figure"], what, axis, row["unit"])
            found.setdefault(key, []).append((float(at.replace(",", "")), row["value"]))
    return [Curve(*key, sorted(points)) for key, points in found.items() if len(points) > 1]
