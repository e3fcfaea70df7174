"""An account that takes less than it says: the rate is learnt, and kept at next to no cost.

Meanwhile SES fails now and then, as a whole and for single mails of a call.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from tests.counts import FULL
from tests.process.harness import CLOCK, Mailer, addresses
from tests.ses.harness import FakeSes
from tests.waiting import until

Start = Callable[..., Mailer]

SAYS, TAKES = 150, 100
LASTS_S = 300 if FULL else 18
LEARNT_AFTER_S = 10


def fault(call: int) -> dict[str, Any]:
    """One call in a hundred fails, and one mail in some of the others."""
    if call % 100 == 50:
        return {"status": 500, "code": "InternalFailure", "message": "oops"}
    return {"entries": {"0": "TRANSIENT_FAILURE"}} if call % 40 == 20 else {}


@pytest.mark.alone
@pytest.mark.timeout(900)
def test_a_rate_below_what_the_account_says_is_learnt(ses: FakeSes, start: Start) -> None:
    calls = LASTS_S * 20
    ses.told(claims_rate=SAYS, max_send_rate=TAKES, faults=[fault(n) for n in range(calls)])
    mailer = start(ses.url, MAX_SEND_PER_SECOND="unlimited")
    quota = "SELECT max_per_second FROM transports WHERE transport = 'ses'"
    until(lambda: mailer.rows(quota) == [(SAYS,)], within_s=30)
    ids: list[str] = []
    while len(ids) < LASTS_S * TAKES:
        ids += mailer.accepted(*addresses(1_000, f"r{len(ids)}"), lane="bulk")
    until(lambda: ses.calls() != [])
    began_us = CLOCK.mono_us()
    until(lambda: CLOCK.mono_us() > began_us + LASTS_S * 1e6, within_s=LASTS_S + 5)
    taken, made = ses.count(), ses.calls()

    later = [call for call in made if call["at"] > made[0]["at"] + LEARNT_AFTER_S]
    wasted = sum(call["throttled"] for call in later)
    at_first = sum(call["throttled"] for call in made) - wasted
    print(f"\n{taken} mails in {LASTS_S} s, {at_first} calls throttled in the first")
    print(f"{LEARNT_AFTER_S} s, {wasted} of {len(later)} later")
    assert at_first
    assert wasted <= max(1, len(later) / 100)
    assert taken >= (0.7 if FULL else 0.4) * LASTS_S * TAKES  # each failed call is a pause
    assert set(mailer.states()) <= {"pending", "sending", "sent"}
    if FULL:
        until(mailer.finished, within_s=200)
        assert mailer.states() == {"sent": len(ids)}
    copies = Counter(mail["tags"]["mailer_request_id"] for mail in ses.mails())
    assert set(copies.values()) == {1}
    assert set(copies) == set(ids) if FULL else set(copies) <= set(ids)
