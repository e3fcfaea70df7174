"""The benchmark's own arithmetic: a figure is worth no more than the sum that made it."""

from __future__ import annotations

import random
from statistics import quantiles

import pytest

from tests.bench import arithmetic
from tests.bench.arithmetic import percentile
from tests.process.harness import most_in_a_second

SECOND_US = 1_000_000


@pytest.mark.parametrize(
    ("percent", "expected"), [(0, 1), (1, 1), (50, 50), (90, 90), (98.5, 99), (99, 99), (100, 100)]
)
def test_percentiles_of_one_to_a_hundred(percent: float, expected: float) -> None:
    values = [float(n) for n in range(1, 101)]
    random.shuffle(values)
    assert percentile(values, percent) == expected


def test_a_percentile_is_a_value_that_was_measured() -> None:
    few = [1.0, 2.0, 30.0]
    assert percentile(few, 99) == 30
    assert quantiles(few, n=100)[98] > 30, "the standard library's goes beyond what was measured"


@pytest.mark.parametrize(
    ("instants_us", "most"),
    [
        ([], 0),
        ([5], 1),
        ([0, SECOND_US], 1),
        ([0, SECOND_US - 1], 2),
        ([SECOND_US - 1, 0], 2),
        ([0, 600_000, 1_200_000, 1_500_000], 3),
        (list(range(0, 3 * SECOND_US, 10_000)), 100),
    ],
)
def test_the_worst_second_is_open_at_its_end(instants_us: list[int], most: int) -> None:
    assert most_in_a_second(instants_us) == most


def test_the_worst_second_is_found_wherever_it_begins() -> None:
    instants_us = sorted(random.randrange(5 * SECOND_US) for _ in range(300))
    counted = max(
        sum(begin <= at_us < begin + SECOND_US for at_us in instants_us) for begin in instants_us
    )
    assert most_in_a_second(instants_us) == counted


def test_a_power_law_is_found_again() -> None:
    fit = arithmetic.power_law([(x, 8_000 * x**-0.05) for x in (1e3, 1e4, 1e5, 1e6, 1e7)])
    assert (fit.a, fit.b) == pytest.approx((8_000, -0.05))
    assert fit.worst == pytest.approx(0, abs=1e-9)
    assert fit.at(1e8) == pytest.approx(8_000 * 1e8**-0.05)


def test_a_wait_of_nothing_breaks_no_law() -> None:
    fit = arithmetic.power_law([(1, 0), (10, 0.01), (100, 0.1)])
    assert (fit.a, fit.b) == pytest.approx((0.001, 1))


def test_what_is_done_one_by_one_is_told_from_what_is_shared() -> None:
    fit = arithmetic.shared([(n, 1 / (20e-6 + 60e-6 / n)) for n in (1, 2, 4, 8)])
    assert (fit.a, fit.b) == pytest.approx((20e-6, 60e-6))
    assert 1 / fit.a == pytest.approx(50_000)


def test_a_line_is_found_in_noise() -> None:
    points = [(x, 5 + 0.25 * x + random.uniform(-0.1, 0.1)) for x in range(1_000)]
    fit = arithmetic.line(points)
    assert (fit.a, fit.b) == pytest.approx((5, 0.25), abs=0.02)
    assert fit.worst <= 0.1 / 4.9


def test_how_far_the_worst_point_is_off() -> None:
    fit = arithmetic.line([(0, 1), (1, 1), (2, 4)])
    assert fit.worst == pytest.approx(1.0)  # the line passes 2 at 1, where 1 was measured


def test_points_at_one_place_have_no_slope() -> None:
    assert arithmetic.line([(3, 4), (3, 6)]).b == 0
