"""The limiter's rule, tried against every lateness and order of senders hypothesis can think of."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailer.pacing import (
    GUARD_US,
    HORIZON_US,
    TOLERANCE_US,
    WINDOW_US,
    Granted,
    Lesson,
    Limit,
    Pace,
    learnt_rate,
    plan,
    recipients_a_slot,
)


@dataclass
class Record:
    """A limiter's record as the store keeps it, and the true instants of use.

    What goes to the domain is under the transport's limit and the domain's, all else under the
    first.
    """

    limit: Limit
    domain_limit: Limit | None = None
    granted: list[tuple[Granted, bool]] = field(default_factory=list)
    next_us: dict[bool, int] = field(default_factory=lambda: {False: 0, True: 0})
    used: list[tuple[int, int, bool]] = field(default_factory=list)

    def paces(self, now_us: int, *, domain: bool) -> list[Pace]:
        limits = {False: self.limit} | ({True: self.domain_limit} if domain else {})
        return [
            Pace(
                limit,
                [
                    g
                    for g, to_domain in self.granted
                    if g.until_us > now_us - limit.window_us and (to_domain or not of_domain)
                ],
                self.next_us[of_domain],
            )
            for of_domain, limit in limits.items()
            if limit is not None
        ]

    def ask(
        self,
        now_us: int,
        recipients: int,
        batch_size: int,
        lateness_us: list[int],
        *,
        tell: bool,
        domain: bool = False,
    ) -> int:
        """Grant, use each slot late by the given amounts, and record the use if `tell`."""
        paces = self.paces(now_us, domain=domain)
        slots = plan(paces, now_us=now_us, recipients=recipients, batch_size=batch_size)
        for slot, late_us in zip(slots, lateness_us * len(slots), strict=False):
            for of_domain, next_us in enumerate(slot.next_us):
                self.next_us[bool(of_domain)] = max(self.next_us[bool(of_domain)], next_us)
            at_us = min(slot.at_us + late_us, slot.until_us)
            self.used.append((at_us, slot.recipients, domain))
            until_us = at_us if tell else slot.until_us
            self.granted.append((Granted(until_us, slot.recipients), domain))
        return sum(slot.recipients for slot in slots)

    def worst_second(self, *, domain: bool = False) -> int:
        """The most recipients in any half-open window of one second; all, or the domain's."""
        uses = sorted((at_us, n) for at_us, n, to_domain in self.used if to_domain or not domain)
        worst = 0
        for at_us, _ in uses:
            worst = max(worst, sum(n for t, n in uses if at_us <= t < at_us + WINDOW_US))
        return worst


ASKS = st.lists(
    st.tuples(
        st.integers(0, 400_000),
        st.integers(1, 120),
        st.lists(st.integers(0, TOLERANCE_US), min_size=1, max_size=5),
        st.booleans(),
        st.booleans(),
    ),
    min_size=1,
    max_size=40,
)


@settings(max_examples=300, deadline=None)
@given(
    rate=st.sampled_from([1, 2, 14, 100, 500]),
    batch_size=st.sampled_from([1, 50]),
    domain_rate=st.sampled_from([0.5, 1, 5, 20, 600]),
    asks=ASKS,
)
def test_no_second_holds_more_than_any_of_the_limits(
    rate: int,
    batch_size: int,
    domain_rate: float,
    asks: list[tuple[int, int, list[int], bool, bool]],
) -> None:
    record = Record(Limit.per_second(rate), Limit.per_second(domain_rate))
    now_us = 10_000_000
    for wait_us, recipients, lateness_us, tell, domain in asks:
        now_us += wait_us
        record.ask(now_us, recipients, batch_size, lateness_us, tell=tell, domain=domain)
    assert record.worst_second() <= rate
    assert record.worst_second(domain=True) <= max(1, domain_rate)


def test_control_a_domain_asked_for_as_if_it_had_no_limit_goes_beyond_it() -> None:
    record = Record(Limit.per_second(100), Limit.per_second(20))
    for now_us in range(0, 2_000_000, 20_000):
        slots = plan(
            record.paces(now_us, domain=False), now_us=now_us, recipients=100, batch_size=1
        )
        record.used += [(slot.at_us, slot.recipients, True) for slot in slots]
        record.granted += [(Granted(slot.at_us, slot.recipients), True) for slot in slots]
    assert record.worst_second(domain=True) > 20


def test_the_check_above_can_fail() -> None:
    """The control: a record that counts late uses as if they had been on time lets too many by."""
    limit = Limit.per_second(100)
    record = Record(limit)
    now_us = 0
    for _ in range(60):
        paces = record.paces(now_us, domain=False)
        slots = plan(paces, now_us=now_us, recipients=20, batch_size=1)
        for n, slot in enumerate(slots):
            record.next_us[False] = max(record.next_us[False], *slot.next_us)
            late_us = TOLERANCE_US if n % 2 else 0
            record.used.append((slot.at_us + late_us, slot.recipients, False))
            record.granted.append((Granted(slot.at_us, slot.recipients), False))
        now_us += 50_000
    assert record.worst_second() > 100


@pytest.mark.parametrize("rate", [14, 100, 500])
@pytest.mark.parametrize("batch_size", [1, 50])
@pytest.mark.parametrize("late_us", [0, 1_000])
def test_waiting_mail_uses_nearly_all_of_the_limit(
    rate: int, batch_size: int, late_us: int
) -> None:
    record = Record(Limit.per_second(rate))
    seconds = 10
    handed_over = 0
    for now_us in range(0, seconds * 1_000_000, 20_000):
        handed_over += record.ask(now_us, 1_000, batch_size, [late_us], tell=True)
    instants_us = [at_us for at_us, *_ in record.used]
    span_us = max(instants_us) - min(instants_us)
    assert handed_over / (span_us / 1_000_000) >= 0.98 * rate
    assert record.worst_second() <= rate


@pytest.mark.parametrize("batch_size", [1, 50])
@pytest.mark.parametrize("domain_first", [True, False])
@pytest.mark.parametrize("every_us", [5_000, 60_000])
def test_a_domain_and_the_rest_both_use_nearly_all_of_theirs(
    batch_size: int, domain_first: bool, every_us: int
) -> None:
    record = Record(Limit.per_second(100), Limit.per_second(20))
    seconds = 10
    sent = {True: 0, False: 0}
    for now_us in range(0, seconds * 1_000_000, every_us):
        for domain in (domain_first, not domain_first):
            sent[domain] += record.ask(now_us, 1_000, batch_size, [0], tell=True, domain=domain)
    assert sum(sent.values()) >= 0.97 * 100 * seconds
    assert record.worst_second() <= 100
    assert record.worst_second(domain=True) <= 20
    if domain_first:
        assert sent[True] >= 0.97 * 20 * seconds


def test_slots_are_spread_evenly_and_not_far_ahead() -> None:
    limit = Limit.per_second(100)
    paces = [Pace(limit, [], 0)]
    slots = plan(paces, now_us=5_000_000, recipients=1_000, batch_size=1)
    gaps = [later.at_us - earlier.at_us for earlier, later in pairwise(slots[6:])]
    assert max(gaps) <= 2 * limit.window_us // limit.capacity
    assert slots[-1].at_us <= 5_000_000 + HORIZON_US


def test_below_one_a_second_the_window_grows() -> None:
    limit = Limit.per_second(0.5)
    assert limit == Limit(1, 2 * WINDOW_US + GUARD_US)
    record = Record(limit)
    for now_us in range(0, 20_000_000, 50_000):
        record.ask(now_us, 5, 1, [0], tell=True)
    assert len(record.used) in {10, 11}


@pytest.mark.parametrize(
    ("rate", "batch_size", "expected"),
    [(14, 50, 1), (100, 50, 9), (500, 50, 49), (5_000, 50, 50), (14, 1, 1), (500, 1, 2)],
)
def test_a_call_takes_no_more_than_a_tenth_of_a_second(
    rate: int, batch_size: int, expected: int
) -> None:
    assert recipients_a_slot(Limit.per_second(rate), batch_size) == expected


@pytest.mark.parametrize(
    ("since_s", "rate"),
    [(0, 90.0), (15, 95.8), (30, 98.75), (60, 100.0), (90, 101.25), (120, 110.0), (180, 180.0)],
)
def test_what_was_too_fast_is_come_back_to_slowly_and_left_ever_faster(
    since_s: int, rate: float
) -> None:
    now_us = 5_000_000 + since_s * 1_000_000
    assert learnt_rate(500, Lesson(100, 5_000_000), now_us) == pytest.approx(rate, abs=0.02)


def test_what_was_learnt_never_goes_beyond_the_limit() -> None:
    assert learnt_rate(14, None, 0) == 14
    assert learnt_rate(14, Lesson(14, 0), 3600 * 1_000_000) == 14
    assert learnt_rate(14, Lesson(100, 0), 0) == 14


@pytest.mark.parametrize("takes", [7, 50, 99, 140])
def test_the_rate_is_found_and_kept_at_little_cost(takes: int) -> None:
    """A provider that says 150 and takes less, each step a tenth of a second at the rate learnt."""
    lesson, refused, taken, learnt_us = None, [], 0.0, 0
    now_us = 0
    while now_us < 600_000_000:
        rate = learnt_rate(150, lesson, now_us)
        if rate > takes:
            lesson = Lesson(rate, now_us)
            refused.append(now_us)
            now_us += 1_000_000  # the pause
        else:
            if not learnt_us:
                learnt_us = now_us
            taken += rate / 10
            now_us += 100_000
    later = [at_us for at_us in refused if at_us > learnt_us]
    assert learnt_us <= 40_000_000
    assert len(later) <= 12
    assert taken / takes / ((now_us - learnt_us) / 1e6) >= 0.93
