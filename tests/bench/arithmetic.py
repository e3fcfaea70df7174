"""What turns measured values into figures: percentiles, and the formulas that curves follow."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Points = Sequence[tuple[float, float]]


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that so many per cent of all are not above (nearest rank)."""
    return sorted(values)[max(0, math.ceil(percent / 100 * len(values)) - 1)]


@dataclass(frozen=True)
class Fit:
    """A formula of two constants, fitted to points by least squares."""

    a: float
    b: float
    formula: Callable[[float, float, float], float]
    worst: float
    """How far the point that fits worst is off, as a share of its value."""

    def at(self, x: float) -> float:
        return self.formula(self.a, self.b, x)


def power_law(points: Points) -> Fit:
    """The law y = a · x^b: a straight line where both axes are logarithmic.

    A wait of nothing has no logarithm: it counts as a thousandth.
    """
    intercept, slope = _straight([(math.log(x), math.log(max(y, 0.001))) for x, y in points])
    return _fit(points, math.exp(intercept), slope, lambda a, b, x: a * x**b)


def shared(points: Points) -> Fit:
    """The law y = 1 ÷ (a + b ÷ x): a piece of work takes `a` one by one, and `b` side by side.

    Amdahl's law, for rates: with ever more workers y comes to 1 ÷ a.
    """
    serial, parallel = _straight([(1 / x, 1 / y) for x, y in points])
    return _fit(points, serial, parallel, lambda a, b, x: 1 / (a + b / x))


def line(points: Points) -> Fit:
    """The law y = a + b · x."""
    return _fit(points, *_straight(points), lambda a, b, x: a + b * x)


def _straight(points: Points) -> tuple[float, float]:
    """Intercept and slope; a slope of 0 when all points stand at one x."""
    middle_x = sum(x for x, _ in points) / len(points)
    middle_y = sum(y for _, y in points) / len(points)
    spread = sum((x - middle_x) ** 2 for x, _ in points)
    if not spread:
        return middle_y, 0.0
    slope = sum((x - middle_x) * (y - middle_y) for x, y in points) / spread
    return middle_y - slope * middle_x, slope


def _fit(
    points: Points, a: float, b: float, formula: Callable[[float, float, float], float]
) -> Fit:
    worst = max(abs(formula(a, b, x) / y - 1) if y else 0.0 for x, y in points)
    return Fit(a, b, formula, worst)
