"""A provider that throttles, defers or can't be reached: everyone waits, no mail pays for it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from tests.process.harness import CLOCK, Mailer, addresses
from tests.waiting import until

Start = Callable[..., Mailer]

RATE = 100
IN_FLIGHT = 2 * 16


def attempts(mailer: Mailer) -> list[tuple[int, int]]:
    """(attempts of a mail, how many mails have so many)."""
    return [
        (n, mails) for n, mails in mailer.rows("SELECT attempts, count(*) FROM mails GROUP BY 1")
    ]


def entered_since(mailer: Mailer, since_us: int) -> list[tuple[int, int]]:
    return [(call.at_us, call.pid) for call in mailer.hand_overs() if call.at_us > since_us]


def test_a_throttled_answer_pauses_all_senders_and_costs_no_attempt(start: Start) -> None:
    mailer = start(MAX_SEND_PER_SECOND=str(RATE))
    mails = mailer.accepted(*addresses(RATE * 6))
    until(lambda: len(mailer.hand_overs()) > RATE)
    throttled_us = CLOCK.mono_us()
    mailer.behave(outcome="throttled")
    until(lambda: "throttled us" in mailer.log)
    told_us = CLOCK.mono_us()
    until(lambda: CLOCK.mono_us() > told_us + 6_000_000, within_s=10)
    # Blocks of 1, 2 and 4 s: in between, each sender finds out by what it has in flight.
    throttled = entered_since(mailer, throttled_us)
    gaps_us = sorted(b[0] - a[0] for a, b in pairwise(throttled))
    mailer.behave()
    until(mailer.finished, within_s=30)
    print(f"\n{len(throttled)} calls in 6 s of throttling, longest pauses {gaps_us[-3:]} µs")
    assert gaps_us[-1] >= 1_800_000
    assert len(throttled) <= 4 * IN_FLIGHT
    assert attempts(mailer) == [(1, len(mails))]
    mailer.assert_sound()


def test_an_unreachable_provider_is_asked_now_and_then_and_mail_waits(start: Start) -> None:
    mailer = start(MAX_SEND_PER_SECOND=str(RATE))
    mails = mailer.accepted(*addresses(RATE * 4))
    until(lambda: len(mailer.hand_overs()) > RATE)
    mailer.behave(unreachable=True)
    gone_us = CLOCK.mono_us()
    until(lambda: CLOCK.mono_us() > gone_us + 7_000_000)
    # Sessions that were open find out one by one; after that nothing is claimed.
    assert len(entered_since(mailer, gone_us)) <= IN_FLIGHT
    assert entered_since(mailer, gone_us + 2_000_000) == []
    assert set(mailer.states()) == {"pending", "sent"}
    mailer.behave()
    back_us = CLOCK.mono_us()
    until(mailer.finished, within_s=40)
    full_rate_s = (entered_since(mailer, back_us)[RATE][0] - back_us) / 1e6
    print(f"\nfull rate {full_rate_s:.1f} s after the provider was back")
    assert full_rate_s <= 30
    assert attempts(mailer) == [(1, len(mails))]
    mailer.assert_sound()


def test_deferred_mail_waits_by_itself_and_uses_its_attempt(start: Start) -> None:
    """The control of both: what concerns one mail is counted, and stops nobody else."""
    mailer = start(MAX_SEND_PER_SECOND=str(RATE), behaviour={"outcome": "deferred"})
    mails = mailer.accepted(*addresses(RATE * 2))
    until(lambda: len(mailer.hand_overs()) == len(mails), within_s=10)
    until(lambda: mailer.states() == {"pending": len(mails)})
    assert attempts(mailer) == [(1, len(mails))]
    waits = mailer.rows(
        "SELECT min(due_at_ms - state_at_ms), max(due_at_ms - state_at_ms) FROM mails"
    )
    ((shortest_ms, longest_ms),) = waits
    assert 30_000 <= shortest_ms <= longest_ms <= 45_000
    mailer.assert_sound()
