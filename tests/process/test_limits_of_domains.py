"""LIMITS: several at once, for a transport and for a domain, over a second and over longer.

Measured at the transport's entry, over all processes, one of them killed. The control shows that
the same load goes beyond the domain's limit when nobody looks at it.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from tests.counts import FULL
from tests.process.harness import CLOCK, HandOver, Mailer, most_in
from tests.waiting import until

pytestmark = pytest.mark.alone

Start = Callable[..., Mailer]

SECONDS = 30 if FULL else 9
TO_DOMAIN = "example.net"


def post_mixed(mailer: Mailer, mails: int, share: float) -> set[str]:
    """Post bulk mail, so much of it to the domain, in no order; the ids of those."""
    to_domain = set()
    for _ in range(0, mails, 1000):
        domains = random.choices([TO_DOMAIN, "example.com"], [share, 1 - share], k=1000)
        emails = [f"reader{n}@{domain}" for n, domain in enumerate(domains)]
        ids = mailer.accepted(*emails)
        to_domain |= {i for i, domain in zip(ids, domains, strict=True) if domain == TO_DOMAIN}
    return to_domain


def us(calls: list[HandOver]) -> list[int]:
    return [call.at_us for call in calls]


@pytest.mark.parametrize("senders", [1, 2, 4] if FULL else [2])
def test_every_limit_holds_and_what_binds_is_used(start: Start, senders: int) -> None:
    mailer = start(
        LIMITS=f"recorder=100/s; recorder@{TO_DOMAIN}=20/s, 45/3s",
        INTERACTIVE_RESERVE="0%",
        SENDERS=str(senders),
    )
    to_domain = post_mixed(mailer, (SECONDS + 3) * 100, share=0.3)
    posted_us = CLOCK.mono_us()
    until(lambda: len(mailer.hand_overs()) > 300, within_s=10)
    mailer.kill(mailer.senders()["sender 0"])
    end_us = posted_us + SECONDS * 1_000_000
    until(lambda: CLOCK.mono_us() > end_us + 200_000, within_s=SECONDS + 5)
    calls = mailer.hand_overs()
    of_domain = [call for call in calls if call.request_id in to_domain]
    worst = (most_in(1.0, us(calls)), most_in(1.0, us(of_domain)), most_in(3.0, us(of_domain)))
    measured = [[c for c in some if posted_us < c.at_us <= end_us] for some in (calls, of_domain)]
    use = (len(measured[0]) / 100 / SECONDS, len(measured[1]) / 15 / SECONDS)
    print(f"\n{senders} senders, one killed: worst windows {worst}, use {use}")
    assert worst[0] <= 100
    assert worst[1] <= 20
    assert worst[2] <= 45
    if senders > 1:  # while nobody lives nobody sends
        assert min(use) >= 0.97


def test_control_without_the_domains_limit_the_same_load_goes_beyond_it(start: Start) -> None:
    mailer = start(LIMITS="recorder=100/s")
    to_domain = post_mixed(mailer, 1000, share=0.3)
    until(lambda: len(mailer.hand_overs()) > 250, within_s=10)
    of_domain = [call for call in mailer.hand_overs() if call.request_id in to_domain]
    assert most_in(1.0, us(of_domain)) > 20
