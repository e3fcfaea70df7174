"""One caller's rate: a second's worth at once, then evenly, and nobody else is held up."""

from __future__ import annotations

import pytest

from mailer.api import callers
from mailer.api.callers import CallerRate


def test_a_burst_of_a_second_then_the_rate() -> None:
    rate = CallerRate(10)
    assert [rate.wait_s("shop", 0) for _ in range(10)] == [0.0] * 10
    assert rate.wait_s("shop", 0) == pytest.approx(0.1)
    assert rate.wait_s("shop", 50_000) == pytest.approx(0.05)
    assert rate.wait_s("other", 0) == 0.0
    granted = sum(rate.wait_s("shop", now_us) == 0.0 for now_us in range(100_000, 5_100_000, 1_000))
    assert granted == 50


def test_less_than_one_a_second() -> None:
    rate = CallerRate(0.1)
    assert rate.wait_s("shop", 0) == 0.0
    assert rate.wait_s("shop", 0) == pytest.approx(10)
    assert rate.wait_s("shop", 10_000_000) == 0.0


def test_without_a_rate_nobody_waits() -> None:
    rate = CallerRate(None)
    assert {rate.wait_s("shop", 0) for _ in range(1000)} == {0.0}


def test_what_is_remembered_is_bounded() -> None:
    rate = CallerRate(10)
    for n in range(callers.MOST + 5):
        rate.wait_s(f"caller {n}", n * 1_000_000)
    assert len(rate._due_us) < 10
