"""What to do with a mail after an attempt: a decision as a value; the store writes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from mailer.hookspecs import Outcome
from mailer.vocabulary import OutcomeKind, State, UncertainPolicy

FIRST_WAIT_S: Final = 30
LONGEST_WAIT_S: Final = 6 * 3600
SETTLE_WITHOUT_EVENTS_MS: Final = 2_000
"""How long an uncertain mail waits where no provider event can ever settle it."""
CRASHES_TO_GIVE_UP: Final = 3
FIRST_BLOCK_S: Final = 1.0
LONGEST_BLOCK_S: Final = 60.0
LONGEST_ASKED_S: Final = 3600.0
"""A provider that asks for a longer pause is tried again all the same."""


@dataclass(frozen=True, slots=True)
class Decision:
    """Where a mail goes: its next state, when it is due again, and the sentence that says why."""

    state: State
    wait_ms: int = 0
    uses_attempt: bool = True
    reason: str = ""


def decide(
    outcome: Outcome, *, attempt: int, age_ms: int, max_age_ms: int, jitter: float
) -> Decision:
    """The decision for one outcome; `jitter` is a random number from 0 to 1.

    `attempt` counts from 1, `age_ms` is the time since the mail was first due.
    """
    match outcome.kind:
        case OutcomeKind.ACCEPTED:
            return Decision(State.SENT)
        case OutcomeKind.REJECTED:
            return Decision(State.FAILED, reason=outcome.detail or "rejected by the provider")
        case OutcomeKind.UNKNOWN:
            return Decision(State.UNCERTAIN, reason=outcome.detail or "no answer came")
        case OutcomeKind.THROTTLED:
            return Decision(State.PENDING, uses_attempt=False, reason=outcome.detail)
        case OutcomeKind.DEFERRED:
            wait_ms = _wait_ms(outcome, attempt, jitter)
            if age_ms + wait_ms > max_age_ms:
                reason = f"given up after {attempt} attempts; the last: {outcome.detail}"
                return Decision(State.FAILED, reason=reason)
            return Decision(State.PENDING, wait_ms=wait_ms, reason=outcome.detail)


def _wait_ms(outcome: Outcome, attempt: int, jitter: float) -> int:
    """Doubles from 30 s to 6 h, plus up to half, unless the provider named a longer wait."""
    doubled_s = float(FIRST_WAIT_S * 2 ** min(attempt - 1, 20))
    wait_s = min(LONGEST_WAIT_S, doubled_s * (1 + jitter / 2))
    return int(1000 * max(wait_s, min(outcome.retry_after_s or 0, LONGEST_WAIT_S)))


def block_s(outcome: Outcome, throttled_in_a_row: int) -> float:
    """How long a whole transport pauses after it was throttled for the n-th time in a row."""
    doubled_s = FIRST_BLOCK_S * float(2 ** min(throttled_in_a_row - 1, 20))
    asked_s = min(outcome.retry_after_s or 0, LONGEST_ASKED_S)
    return max(asked_s, min(LONGEST_BLOCK_S, doubled_s))


def settle(policy: UncertainPolicy, *, crashes: int) -> Decision:
    """What becomes of an uncertain mail for which no evidence came."""
    if crashes >= CRASHES_TO_GIVE_UP:
        reason = f"its hand-over ended the sender process {crashes} times"
        return Decision(State.FAILED, reason=reason)
    if policy is UncertainPolicy.GIVE_UP:
        return Decision(State.FAILED, reason="nobody knows whether it was taken; not sent again")
    return Decision(State.PENDING, reason="nobody knows whether it was taken; sent again")
