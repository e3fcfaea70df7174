"""When a delivery is tried again and when an endpoint is left alone: decisions as values.

After Standard Webhooks' schedule, with no wait above 12 hours. A delivery is given up when it fails
three days after its first try; an endpoint that has done nothing but fail for five days is switched
off. Pure: answers and times come in, the caller writes what is decided.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

WAITS_S: Final = (5, 5 * 60, 30 * 60, 2 * 3600, 5 * 3600, 10 * 3600, 12 * 3600)
"""The wait after the first failure, the second, …; the last one from then on."""
JITTER: Final = 0.1
"""Up to so much is added to a wait, so that deliveries that failed together part."""
GIVE_UP_AFTER_MS: Final = 3 * 86_400_000
SWITCH_OFF_AFTER_MS: Final = 5 * 86_400_000
LONGEST_ASKED_S: Final = 12 * 3600
"""A receiver that asks for a longer pause is tried again all the same."""

FAILURES_TO_PROBE: Final = 3
"""After so many in a row an endpoint is asked one request at a time, with pauses between."""
FIRST_PAUSE_S: Final = 5
LONGEST_PAUSE_S: Final = 60


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one request."""

    status: int | None
    """None: no answer came."""
    detail: str
    """The receiver's words, or why there are none; for the operator."""
    retry_after_s: float | None = None

    @property
    def good(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


class Fate(StrEnum):
    """What becomes of a delivery."""

    DONE = "done"
    AGAIN = "again"
    GIVEN_UP = "given_up"


@dataclass(frozen=True, slots=True)
class Decision:
    fate: Fate
    wait_ms: int = 0
    uses_attempt: bool = True


def decide(
    answer: Answer, *, attempt: int, first_tried_at_ms: int, now_ms: int, jitter: float
) -> Decision:
    """What becomes of a delivery after this answer to its n-th attempt, the first being 1.

    `jitter` is a random number from 0 to 1. An answer that asks for a pause costs no attempt. 410
    speaks of the endpoint, which is switched off: the delivery waits for it to be switched on.
    """
    if answer.good:
        return Decision(Fate.DONE)
    if now_ms - first_tried_at_ms >= GIVE_UP_AFTER_MS:
        return Decision(Fate.GIVEN_UP)
    spread = 1 + JITTER * jitter
    asked_s = _asked_s(answer)
    if asked_s is not None:
        return Decision(Fate.AGAIN, int(1000 * asked_s * spread), uses_attempt=False)
    wait_s = WAITS_S[min(attempt, len(WAITS_S)) - 1]
    return Decision(Fate.AGAIN, int(1000 * wait_s * spread))


@dataclass(frozen=True, slots=True)
class Health:
    """How an endpoint has answered of late."""

    failures: int = 0
    """In a row."""
    failing_since_ms: int | None = None
    paused_until_ms: int = 0
    last_failure: str = ""

    @property
    def probing(self) -> bool:
        """Whether it is asked one request at a time."""
        return self.failures >= FAILURES_TO_PROBE

    def after(self, answer: Answer, now_ms: int) -> Health:
        """The health that this answer leaves it in."""
        if answer.good:
            return Health()
        asked_s = _asked_s(answer)
        return Health(
            failures=self.failures + 1,
            failing_since_ms=now_ms if self.failing_since_ms is None else self.failing_since_ms,
            paused_until_ms=max(
                self.paused_until_ms, now_ms + int(1000 * (asked_s or _pause_s(self.failures + 1)))
            ),
            last_failure=answer.detail,
        )

    def reason_to_switch_off(self, answer: Answer, now_ms: int) -> str | None:
        """The sentence, when this answer is the last that is asked for; else None."""
        if answer.status == 410:
            return "it answered 410 Gone"
        since_ms = self.failing_since_ms
        if not answer.good and since_ms is not None and now_ms - since_ms >= SWITCH_OFF_AFTER_MS:
            return f"it has failed for five days; the last answer: {answer.detail}"
        return None


def _asked_s(answer: Answer) -> float | None:
    if answer.status not in {429, 503} or answer.retry_after_s is None:
        return None
    return min(max(answer.retry_after_s, WAITS_S[0]), LONGEST_ASKED_S)


def _pause_s(failures: int) -> int:
    """None at first, for one delivery may fail alone; then doubling."""
    beyond = failures - FAILURES_TO_PROBE
    return 0 if beyond < 0 else min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(beyond, 10))
