"""Decisions after an attempt, as a table."""

from __future__ import annotations

import pytest

from mailer.hookspecs import Outcome
from mailer.retry import CRASHES_TO_GIVE_UP, block_s, decide, settle
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


@pytest.mark.parametrize(
    ("retry_after_s", "in_a_row", "expected_s"),
    [(None, 1, 1), (None, 2, 2), (None, 4, 8), (None, 30, 60), (120, 1, 120), (0.5, 3, 4)],
)
def test_a_throttled_transport_pauses_longer_each_time(
    retry_after_s: float | None, in_a_row: int, expected_s: float
) -> None:
    outcome = Outcome(Kind.THROTTLED, retry_after_s=retry_after_s)
    assert block_s(outcome, in_a_row) == expected_s


@pytest.mark.parametrize(
    ("policy", "crashes", "state"),
    [
        (UncertainPolicy.RESEND, 0, State.PENDING),
        (UncertainPolicy.RESEND, CRASHES_TO_GIVE_UP - 1, State.PENDING),
        (UncertainPolicy.RESEND, CRASHES_TO_GIVE_UP, State.FAILED),
        (UncertainPolicy.GIVE_UP, 0, State.FAILED),
    ],
)
def test_uncertain_mail_is_settled_by_policy(
    policy: UncertainPolicy, crashes: int, state: State
) -> None:
    assert settle(policy, crashes=crashes).state is state
