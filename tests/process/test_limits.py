"""The rate: never above the limit in any window of one second, hardly ever below while mail waits.

Measured where it counts, at the transport's entry, over all processes. The control shows that the
same load goes far beyond when nothing limits it.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from tests.counts import FULL
from tests.process.harness import CLOCK, Mailer, addresses, most_in_a_second
from tests.waiting import until

pytestmark = pytest.mark.alone

Start = Callable[..., Mailer]

BURST_S = 12 if FULL else 4
COMBINATIONS = [(rate, senders) for rate in (14, 100, 500) for senders in (1, 2, 4)]
SOME = [(14, 1), (500, 4)]


def post_burst(mailer: Mailer, mails: int) -> None:
    """Post uneven batches, bulk and single ones."""
    left = mails
    while left:
        size = min(left, random.choice((1, 1, 7, 300, 1000)))
        mailer.accepted(*addresses(size))
        left -= size


def instants_after(mailer: Mailer, since_us: int) -> list[int]:
    return [call.at_us for call in mailer.hand_overs() if call.at_us > since_us]


def use(instants_us: list[int], rate: int) -> float:
    """The share of the rate that a run of hand-overs makes of its time."""
    return (len(instants_us) - 1) * 1e6 / (instants_us[-1] - instants_us[0]) / rate


def run_burst(mailer: Mailer, rate: int, seconds: int) -> list[int]:
    """Mail for so many seconds, posted unevenly; when each was handed over once all was there."""
    since_us, mails = CLOCK.mono_us(), rate * seconds
    post_burst(mailer, mails)
    posted_us = CLOCK.mono_us()
    until(lambda: len(instants_after(mailer, since_us)) == mails, within_s=seconds + 15)
    return instants_after(mailer, posted_us)


@pytest.mark.parametrize(("rate", "senders"), COMBINATIONS if FULL else SOME)
def test_uneven_load_stays_within_the_limit_and_uses_it(
    start: Start, rate: int, senders: int
) -> None:
    mailer = start(MAX_SEND_PER_SECOND=str(rate), SENDERS=str(senders))
    uses = []
    for _ in range(2):  # the queue runs empty between them
        uses.append(use(run_burst(mailer, rate, BURST_S), rate))
    worst = most_in_a_second([call.at_us for call in mailer.hand_overs()])
    print(f"\n{rate}/s, {senders} senders: worst window {worst}, use {uses}")
    assert worst <= rate
    assert min(uses) >= 0.98
    assert mailer.uncertain_events() == {}


@pytest.mark.parametrize(("rate", "senders"), COMBINATIONS if FULL else [(100, 2)])
def test_a_sender_killed_midway_changes_nothing_of_that(
    start: Start, rate: int, senders: int
) -> None:
    mailer = start(MAX_SEND_PER_SECOND=str(rate), SENDERS=str(senders))
    seconds = 3 * BURST_S
    mails = rate * seconds
    post_burst(mailer, mails)
    posted_us = CLOCK.mono_us()
    until(lambda: len(mailer.hand_overs()) > mails // 3, within_s=seconds)
    killed_us = CLOCK.mono_us()
    mailer.kill(mailer.senders()["sender 0"])
    until(mailer.finished, within_s=seconds + 30)
    # Mail that was in flight comes again by itself, later than all the rest: not of this.
    first_us = {call.request_id: call.at_us for call in reversed(mailer.hand_overs())}
    last_us = max(first_us.values())
    waiting = [us for us in instants_after(mailer, posted_us) if us <= last_us]
    if senders == 1:  # while nobody lives nobody sends: what counts is how soon that ends
        before = [us for us in waiting if us <= killed_us]
        after = [us for us in waiting if us > killed_us + 50_000]
        assert after[0] - killed_us < 2_000_000
        uses = [use(before, rate), use(after, rate)]
    else:
        uses = [use(waiting, rate)]
    worst = most_in_a_second([call.at_us for call in mailer.hand_overs()])
    print(f"\n{rate}/s, {senders} senders, one killed: worst window {worst}, use {uses}")
    assert worst <= rate
    assert min(uses) >= 0.98


@pytest.mark.parametrize(("rate", "senders"), COMBINATIONS if FULL else [(500, 2)])
def test_a_transport_that_takes_fifty_at_once(start: Start, rate: int, senders: int) -> None:
    mailer = start(
        MAX_SEND_PER_SECOND=str(rate), SENDERS=str(senders), behaviour={"batch_size": 50}
    )
    instants = run_burst(mailer, rate, BURST_S)
    worst, used = most_in_a_second(instants), use(instants, rate)
    print(f"\n{rate}/s, {senders} senders, batches: worst window {worst}, use {used}")
    assert worst <= rate
    assert used >= 0.98


def test_a_slow_provider_does_not_bring_the_rate_down(start: Start) -> None:
    mailer = start(MAX_SEND_PER_SECOND="100", behaviour={"delay_ms": 150})
    instants = run_burst(mailer, 100, 2 * BURST_S)
    worst, used = most_in_a_second(instants), use(instants, 100)
    print(f"\n100/s, 150 ms a call: worst window {worst}, use {used}")
    assert worst <= 100
    assert used >= 0.98


def test_control_without_a_limit_the_same_load_goes_beyond(start: Start) -> None:
    mailer = start(MAX_SEND_PER_SECOND="unlimited")
    assert most_in_a_second(run_burst(mailer, 500, 2)) > 500
