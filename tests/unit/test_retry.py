"""Decisions after an attempt, as a table."""

from __future__ import annotations

import pytest

from mailer.hookspecs import Outcome
from mailer.retry import CRASHES_TO_GIVE_UP, decide, pause_s, settle, teaches_rate, trouble
from mailer.vocabulary import OutcomeKind as Kind
from mailer.vocabulary import State, UncertainPolicy

HOUR_MS = 3600 * 1000
MAX_AGE_MS = 48 * HOUR_MS


@pytest.mark.parametrize(
    ("kind", "attempt", "age_ms", "state", "wait_s", "uses_attempt"),
    [
        (Kind.ACCEPTED, 1, 0, State.SENT, 0, True),
        (Kind.REJECTED, 1, 0, State.FAILED, 0, True),
        (Kind.UNKNOWN, 1, 0, State.UNCERTAIN, 0, True),
        (Kind.UNKNOWN, 9, 99 * HOUR_MS, State.UNCERTAIN, 0, True),
        (Kind.THROTTLED, 1, 0, State.PENDING, 0, False),
        (Kind.THROTTLED, 50, 99 * HOUR_MS, State.PENDING, 0, False),
        (Kind.DEFERRED, 1, 0, State.PENDING, 30, True),
        (Kind.DEFERRED, 2, 30_000, State.PENDING, 60, True),
        (Kind.DEFERRED, 5, HOUR_MS, State.PENDING, 480, True),
        (Kind.DEFERRED, 11, 20 * HOUR_MS, State.PENDING, 21_600, True),
        (Kind.DEFERRED, 40, 41 * HOUR_MS, State.PENDING, 21_600, True),
        (Kind.DEFERRED, 40, 43 * HOUR_MS, State.FAILED, 0, True),
        (Kind.DEFERRED, 1, MAX_AGE_MS, State.FAILED, 0, True),
    ],
)
def test_decisions(
    kind: Kind, attempt: int, age_ms: int, state: State, wait_s: int, uses_attempt: bool
) -> None:
    decision = decide(
        Outcome(kind, "451 later"), attempt=attempt, age_ms=age_ms, max_age_ms=MAX_AGE_MS, jitter=0
    )
    assert (decision.state, decision.wait_ms, decision.uses_attempt) == (
        state,
        wait_s * 1000,
        uses_attempt,
    )


def test_jitter_spreads_a_wait_by_half_and_never_past_six_hours() -> None:
    def wait_ms(attempt: int, jitter: float) -> int:
        outcome = Outcome(Kind.DEFERRED)
        return decide(
            outcome, attempt=attempt, age_ms=0, max_age_ms=MAX_AGE_MS, jitter=jitter
        ).wait_ms

    assert wait_ms(1, 1.0) == 45_000
    assert wait_ms(11, 1.0) == 6 * HOUR_MS


def test_the_providers_own_wait_counts_when_longer() -> None:
    outcome = Outcome(Kind.DEFERRED, retry_after_s=3600)
    decision = decide(outcome, attempt=1, age_ms=0, max_age_ms=MAX_AGE_MS, jitter=0)
    assert decision.wait_ms == HOUR_MS


def test_a_failure_keeps_the_providers_words() -> None:
    outcome = Outcome(Kind.REJECTED, "550 5.1.1 no such user")
    assert decide(outcome, attempt=1, age_ms=0, max_age_ms=1, jitter=0).reason == outcome.detail


ACCEPTED, THROTTLED = Outcome(Kind.ACCEPTED), Outcome(Kind.THROTTLED)
REJECTED, UNKNOWN = Outcome(Kind.REJECTED), Outcome(Kind.UNKNOWN)
DEFERRED, DOWN = Outcome(Kind.DEFERRED), Outcome(Kind.DEFERRED, concerns_all=True)


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        ([ACCEPTED], None),
        ([REJECTED], None),
        ([DEFERRED], None),
        ([], None),
        ([ACCEPTED, THROTTLED], THROTTLED),
        ([THROTTLED, UNKNOWN], THROTTLED),
        ([ACCEPTED, UNKNOWN], None),
        ([ACCEPTED, DOWN], None),
        ([REJECTED, UNKNOWN], UNKNOWN),
        ([DEFERRED, DOWN], DOWN),
    ],
)
def test_what_stops_the_whole_transport(outcomes: list[Outcome], expected: Outcome | None) -> None:
    assert trouble(outcomes) == expected


@pytest.mark.parametrize(
    ("outcome", "in_a_row", "expected_s"),
    [
        (THROTTLED, 1, 1),
        (THROTTLED, 2, 2),
        (THROTTLED, 4, 8),
        (THROTTLED, 30, 25),
        (Outcome(Kind.THROTTLED, retry_after_s=120), 1, 120),
        (Outcome(Kind.THROTTLED, retry_after_s=0.5), 3, 4),
        (UNKNOWN, 1, 0),
        (DOWN, 1, 0),
        (DOWN, 2, 1),
        (DOWN, 3, 2),
        (DOWN, 30, 25),
    ],
)
def test_a_transport_in_trouble_pauses_longer_each_time(
    outcome: Outcome, in_a_row: int, expected_s: float
) -> None:
    assert pause_s(outcome, in_a_row) == expected_s


@pytest.mark.parametrize(
    ("outcome", "in_a_row", "teaches"),
    [
        (THROTTLED, 1, True),
        (THROTTLED, 2, False),
        (Outcome(Kind.THROTTLED, retry_after_s=60), 1, False),
        (DOWN, 1, False),
        (UNKNOWN, 1, False),
    ],
)
def test_only_the_first_throttled_answer_is_about_the_rate(
    outcome: Outcome, in_a_row: int, *, teaches: bool
) -> None:
    assert teaches_rate(outcome, in_a_row) is teaches


RESEND, GIVE_UP = UncertainPolicy.RESEND, UncertainPolicy.GIVE_UP


@pytest.mark.parametrize(
    ("policy", "crashes", "attempts", "state", "wait_s"),
    [
        (RESEND, 0, 1, State.PENDING, 0),
        (RESEND, 0, 2, State.PENDING, 30),
        (RESEND, 0, 4, State.PENDING, 120),
        (RESEND, 0, 40, State.PENDING, 21_600),
        (RESEND, CRASHES_TO_GIVE_UP - 1, 2, State.PENDING, 0),
        (RESEND, CRASHES_TO_GIVE_UP, 3, State.FAILED, 0),
        (GIVE_UP, 0, 1, State.FAILED, 0),
    ],
)
def test_uncertain_mail_is_settled_by_policy(
    policy: UncertainPolicy, crashes: int, attempts: int, state: State, wait_s: int
) -> None:
    decision = settle(policy, crashes=crashes, attempts=attempts)
    assert (decision.state, decision.wait_ms) == (state, wait_s * 1000)
