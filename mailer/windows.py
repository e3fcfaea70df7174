"""Limits over more than a second: pure functions over what each hundredth of the window held.

Promise: at hand-over, no window of the limit's length holds more recipients than the limit, and
mail that waits uses 98.5 % of it or more. A hundredth counts until the window has wholly left it,
so never too short, and at most a hundredth of the window too long. A slot counts from its grant, in
the hundredth of its latest possible use, and once used in that of its use. So what has to be
summed stays the same, however long the window.

Times are microseconds of a clock that nobody can set while the machine is up: `store.windows`.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate
from typing import Final

from mailer.pacing import GUARD_US

PARTS: Final = 100


def part_us(window_s: int) -> int:
    """The length of a hundredth of such a window."""
    return window_s * 1_000_000 // PARTS


def part(window_s: int, at_us: int) -> int:
    """The number of the hundredth that an instant lies in."""
    return at_us // part_us(window_s)


def first_part(window_s: int, now_us: int) -> int:
    """The oldest hundredth that counts in the window that ends now."""
    return part(window_s, now_us - window_s * 1_000_000 - GUARD_US)


def left(most: int, counts: Mapping[int, int]) -> int:
    """How many more recipients the window takes; `counts` are the hundredths that count."""
    return max(0, most - sum(counts.values()))


def frees_us(most: int, counts: Mapping[int, int], window_s: int) -> int | None:
    """From when on it takes one more, of at least one (`most`). None: it does now."""
    missing = sum(counts.values()) + 1 - most
    if missing <= 0:
        return None
    leaving = sorted(counts)
    left_us = part_us(window_s) + window_s * 1_000_000 + GUARD_US
    held = accumulate(counts[number] for number in leaving)
    return next(
        number * part_us(window_s) + left_us
        for number, gone in zip(leaving, held, strict=True)
        if gone >= missing
    )
