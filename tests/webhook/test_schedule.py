"""When a delivery is tried again, given up, and when its endpoint is left alone."""

from __future__ import annotations

import pytest
from mailer_webhook.schedule import Answer, Fate, Health, decide

DAY_MS = 86_400_000
START_MS = 1_900_000_000_000

GOOD = Answer(204, "204")
BAD = Answer(500, "500 Sorry")
SILENT = Answer(None, "no answer within 15 s")


def fate(answer: Answer, attempt: int = 1, age_ms: int = 0, jitter: float = 0.0) -> object:
    decision = decide(
        answer,
        attempt=attempt,
        first_tried_at_ms=START_MS,
        now_ms=START_MS + age_ms,
        jitter=jitter,
    )
    if decision.fate is Fate.AGAIN:
        return decision.wait_ms / 1000, decision.uses_attempt
    return decision.fate


@pytest.mark.parametrize(
    ("answer", "attempt", "age_ms", "expected"),
    [
        (GOOD, 1, 0, Fate.DONE),
        (GOOD, 40, 9 * DAY_MS, Fate.DONE),
        (Answer(299, ""), 1, 0, Fate.DONE),
        (BAD, 1, 0, (5, True)),
        (BAD, 2, 0, (300, True)),
        (BAD, 3, 0, (1800, True)),
        (BAD, 4, 0, (7200, True)),
        (BAD, 5, 0, (18_000, True)),
        (BAD, 6, 0, (36_000, True)),
        (BAD, 7, 0, (43_200, True)),
        (BAD, 8, 0, (43_200, True)),
        (BAD, 1000, 0, (43_200, True)),
        (SILENT, 1, 0, (5, True)),
        (Answer(302, ""), 1, 0, (5, True)),
        (Answer(199, ""), 1, 0, (5, True)),
        (Answer(404, ""), 1, 0, (5, True)),
        (Answer(410, ""), 1, 0, (5, True)),
        (Answer(429, "", 120.0), 3, 0, (120, False)),
        (Answer(503, "", 120.0), 3, 0, (120, False)),
        (Answer(503, "", 0.0), 3, 0, (5, False)),
        (Answer(503, "", 1e9), 3, 0, (43_200, False)),
        (Answer(503, ""), 3, 0, (1800, True)),
        (Answer(500, "", 120.0), 3, 0, (1800, True)),
        (BAD, 9, 3 * DAY_MS - 1, (43_200, True)),
        (BAD, 9, 3 * DAY_MS, Fate.GIVEN_UP),
        (Answer(429, "", 120.0), 9, 3 * DAY_MS, Fate.GIVEN_UP),
    ],
)
def test_fates(answer: Answer, attempt: int, age_ms: int, expected: object) -> None:
    assert fate(answer, attempt, age_ms) == expected


def test_jitter_only_adds_and_a_tenth_at_most() -> None:
    assert fate(BAD, 2, jitter=1.0) == (pytest.approx(330), True)
    assert fate(Answer(429, "", 100.0), jitter=1.0) == (pytest.approx(110), False)


@pytest.mark.parametrize("jitter", [0.0, 0.5, 1.0])
def test_a_receiver_that_was_down_for_three_days_gets_what_it_missed(jitter: float) -> None:
    """A delivery's tries, when all fail: the last one comes after the third day."""
    tries_ms, now_ms = [], START_MS
    for attempt in range(1, 100):
        tries_ms.append(now_ms - START_MS)
        decision = decide(
            BAD, attempt=attempt, first_tried_at_ms=START_MS, now_ms=now_ms, jitter=jitter
        )
        if decision.fate is Fate.GIVEN_UP:
            break
        now_ms += decision.wait_ms
    assert tries_ms[:2] == [0, pytest.approx(5000, rel=0.11)]
    assert tries_ms[-2] < 3 * DAY_MS <= tries_ms[-1] < 4 * DAY_MS
    assert 10 <= len(tries_ms) <= 13


def failing(times: int, every_ms: int, answer: Answer = BAD) -> Health:
    health = Health()
    for n in range(times):
        health = health.after(answer, START_MS + n * every_ms)
    return health


def test_one_failure_holds_nothing_else_back() -> None:
    health = failing(2, 0)
    assert (health.probing, health.paused_until_ms <= START_MS) == (False, True)


def test_several_in_a_row_make_it_probe_with_pauses_up_to_a_minute() -> None:
    pauses = [failing(n, 0).paused_until_ms - START_MS for n in (3, 4, 5, 6, 7, 8, 5000)]
    assert failing(3, 0).probing
    assert pauses == [5000, 10_000, 20_000, 40_000, 60_000, 60_000, 60_000]


def test_one_success_makes_it_whole() -> None:
    assert failing(50, 1000).after(GOOD, START_MS) == Health()


def test_a_pause_that_was_asked_for_holds_whatever_else_comes_in() -> None:
    health = Health().after(Answer(429, "", 600.0), START_MS).after(BAD, START_MS + 1)
    assert health.paused_until_ms == START_MS + 600_000


@pytest.mark.parametrize(
    ("health", "answer", "age_ms", "off"),
    [
        (Health(), Answer(410, ""), 0, True),
        (Health(), BAD, 0, False),
        (failing(1, 0), BAD, 5 * DAY_MS - 1, False),
        (failing(1, 0), BAD, 5 * DAY_MS, True),
        (failing(1, 0), Answer(503, "", 60.0), 5 * DAY_MS, True),
        (failing(1, 0), GOOD, 5 * DAY_MS, False),
        (failing(9, DAY_MS).after(GOOD, START_MS), BAD, 9 * DAY_MS, False),
    ],
)
def test_when_an_endpoint_is_switched_off(
    health: Health, answer: Answer, age_ms: int, off: bool
) -> None:
    assert bool(health.reason_to_switch_off(answer, START_MS + age_ms)) is off
