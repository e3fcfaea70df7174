"""What a sender tells `/metrics`: of each call that has ended, and of the limiter."""

from __future__ import annotations

from collections import Counter

from mailer.calls import Finished
from mailer.metrics import ATTEMPTS, DUE_TO_HANDOVER, GIVEN_BACK, LIMITER_WAIT, PROVIDER_CALL
from mailer.store.measures import Measures
from mailer.vocabulary import Lane


def measure(measures: Measures, end: Finished) -> None:
    """Count and time it; a call of many mails as a few sums."""
    transport = end.transport
    if end.outcomes is None:
        measures.add(GIVEN_BACK, (transport,), len(end.call.mails))
        return
    took_ms = end.ended_at_ms - end.started_at_ms
    measures.observe(PROVIDER_CALL, (transport,), took_ms * 1000)
    for kind, number in Counter(outcome.kind for outcome in end.outcomes).items():
        measures.add(ATTEMPTS, (transport, kind), number)
    late: dict[tuple[Lane, int], int] = {}
    for mail in end.call.mails:
        due = (mail.lane, mail.due_at_ms)
        late[due] = late.get(due, 0) + 1
    for (lane, due_at_ms), number in late.items():
        late_us = (end.started_at_ms - due_at_ms) * 1000
        measures.observe(DUE_TO_HANDOVER, (transport, lane), late_us, number)


class LimiterWait:
    """Times how long mail that is due waits for a slot of the rate."""

    def __init__(self, measures: Measures) -> None:
        self._measures = measures
        self._since_us: int | None = None

    def note(self, next_slot_us: int | None, now_us: int) -> None:
        """When a slot will be free for mail that waits, as it is known now."""
        if next_slot_us is None and self._since_us is not None:
            self._measures.observe(LIMITER_WAIT, (), now_us - self._since_us)
            self._since_us = None
        elif next_slot_us is not None and self._since_us is None:
            self._since_us = now_us
