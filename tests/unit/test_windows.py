"""Limits over more than a second: their sums, tried against every lateness hypothesis thinks of."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailer.pacing import HORIZON_US, TOLERANCE_US
from mailer.windows import PARTS, first_part, frees_us, left, part, part_us

S = 1_000_000


@dataclass
class Record:
    """Several limits at once as the store keeps them, and the true instants of use."""

    limits: dict[int, int]
    """Length in seconds → recipients."""
    counts: dict[int, Counter[int]] = field(default_factory=dict)
    used: list[tuple[int, int]] = field(default_factory=list)

    def counted(self, window_s: int, now_us: int) -> dict[int, int]:
        since = first_part(window_s, now_us)
        counts = self.counts.setdefault(window_s, Counter())
        return {number: n for number, n in counts.items() if number >= since}

    def take(self, now_us: int, wanted: int, early_us: int, late_us: int, *, tell: bool) -> int:
        """Grant what all limits let go and use it; with `tell` its use goes on record."""
        room = [left(most, self.counted(s, now_us)) for s, most in self.limits.items()]
        taken = min(wanted, *room)
        at_us = now_us + early_us
        until_us, used_us = at_us + TOLERANCE_US, at_us + late_us
        for window_s, counts in self.counts.items():
            counts[part(window_s, used_us if tell else until_us)] += taken
        if taken:
            self.used.append((used_us, taken))
        return taken

    def worst(self, window_s: int) -> int:
        """The most recipients in any half-open window of that length."""
        uses, most = sorted(self.used), 0
        for at_us, _ in uses:
            most = max(most, sum(n for t, n in uses if at_us <= t < at_us + window_s * S))
        return most


TAKES = st.lists(
    st.tuples(
        st.integers(0, 4 * S),
        st.integers(1, 60),
        st.integers(0, HORIZON_US),
        st.integers(0, TOLERANCE_US),
        st.booleans(),
    ),
    min_size=1,
    max_size=60,
)


@settings(max_examples=300, deadline=None)
@given(
    limits=st.dictionaries(
        st.sampled_from([2, 3, 10, 60]), st.integers(1, 200), min_size=1, max_size=3
    ),
    takes=TAKES,
)
def test_no_window_of_any_limit_holds_more(
    limits: dict[int, int], takes: list[tuple[int, int, int, int, bool]]
) -> None:
    record = Record(limits)
    now_us = 10**15
    for wait_us, wanted, early_us, late_us, tell in takes:
        now_us += wait_us
        record.take(now_us, wanted, early_us, late_us, tell=tell)
    for window_s, most in limits.items():
        assert record.worst(window_s) <= most


def test_control_counted_by_their_grant_late_uses_are_too_many() -> None:
    record = Record({2: 10})
    for now_us in range(0, 8 * S, 50_000):
        taken = record.take(now_us, 10, 0, 0, tell=True)
        if taken and now_us < 2 * S:
            at_us, n = record.used.pop()
            record.used.append((at_us + TOLERANCE_US, n))
    assert record.worst(2) > 10


@pytest.mark.parametrize("window_s", [2, 10, 60, 3600, 86400])
@pytest.mark.parametrize("most", [1, 7, 600])
def test_waiting_mail_uses_99_hundredths_of_it(window_s: int, most: int) -> None:
    """Whatever opens is used at once, for ten windows."""
    record = Record({window_s: most})
    now_us, end_us, sent = 10**15, 10**15 + 10 * window_s * S, 0
    while now_us < end_us:
        sent += record.take(now_us, 25, 0, 0, tell=True)
        now_us = frees_us(most, record.counted(window_s, now_us), window_s) or now_us + 5_000
    assert sent >= 0.985 * most * 10
    assert record.worst(window_s) <= most


def test_when_it_opens_again_is_told_to_the_hundredth() -> None:
    assert part_us(86400) * PARTS == 86400 * S
    counts = {part(60, at * S): 10 for at in (600, 610, 620)}
    assert frees_us(31, counts, 60) is None
    for most, opens_s in ((30, 660), (21, 660), (20, 670), (10, 680), (1, 680)):
        opens_us = frees_us(most, counts, 60)
        assert opens_us is not None
        assert opens_s * S < opens_us <= opens_s * S + S
        later = {n: c for n, c in counts.items() if n >= first_part(60, opens_us)}
        assert left(most, later) > 0
        earlier = {n: c for n, c in counts.items() if n >= first_part(60, opens_us - 10_000)}
        assert left(most, earlier) == 0
