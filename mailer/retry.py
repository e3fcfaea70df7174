"""What to do with a mail after an attempt: a decision as a value; the store writes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from mailer.hookspecs import Outcome
from mailer.vocabulary import OutcomeKind, State, UncertainPolicy

FIRST_WAIT_S: Final = 30
LONGEST_WAIT_S: Final = 6 * 3600
SETTLE_WITHOUT_EVENTS_MS: Final = 2_000
"""How long an uncertain mail waits where no provider event can ever settle it."""
CRASHES_TO_GIVE_UP: Final = 3
FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 25.0
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


def trouble(outcomes: Sequence[Outcome]) -> Outcome | None:
    """The outcome of a call for which the whole transport has to wait, if one is.

    One throttled mail is enough. That the provider failed, or that no answer came, counts when it
    took none of the call's mails.
    """
    by_kind = {outcome.kind: outcome for outcome in outcomes}
    if OutcomeKind.THROTTLED in by_kind:
        return by_kind[OutcomeKind.THROTTLED]
    if OutcomeKind.ACCEPTED in by_kind:
        return None
    failed = (o for o in outcomes if o.kind is OutcomeKind.UNKNOWN or o.concerns_all)
    return next(failed, None)


def pause_s(outcome: Outcome, in_a_row: int) -> float:
    """How long a whole transport pauses after its n-th trouble in a row; one mail is tried then.

    A first failure may be one mail's own: the trial follows at once.
    """
    doublings = in_a_row - (1 if outcome.kind is OutcomeKind.THROTTLED else 2)
    doubled_s = FIRST_PAUSE_S * float(2 ** min(doublings, 20)) if doublings >= 0 else 0.0
    asked_s = min(outcome.retry_after_s or 0, LONGEST_ASKED_S)
    return max(asked_s, min(LONGEST_PAUSE_S, doubled_s))


def teaches_rate(outcome: Outcome, in_a_row: int) -> bool:
    """Whether a trouble says that the rate is too high for the provider.

    Not when it asks for a pause of its own, nor right after a pause, when the rate was none.
    """
    throttled = outcome.kind is OutcomeKind.THROTTLED
    return throttled and outcome.retry_after_s is None and in_a_row == 1


def settle(policy: UncertainPolicy, *, crashes: int, attempts: int) -> Decision:
    """What becomes of an uncertain mail for which no evidence came.

    It is sent again at once, but ever later from then on: a provider that takes mail and does not
    answer must not make its recipients pay for that. One that ends its sender goes alone, soon.
    """
    if crashes >= CRASHES_TO_GIVE_UP:
        reason = f"its hand-over ended the sender process {crashes} times"
        return Decision(State.FAILED, reason=reason)
    if policy is UncertainPolicy.GIVE_UP:
        return Decision(State.FAILED, reason="nobody knows whether it was taken; not sent again")
    doubled_s = FIRST_WAIT_S * 2 ** min(attempts - 2, 20) if attempts > 1 and not crashes else 0
    return Decision(
        State.PENDING,
        wait_ms=int(1000 * min(LONGEST_WAIT_S, doubled_s)),
        reason="nobody knows whether it was taken; sent again",
    )
