"""LIMITS: several at once, for a transport and for a domain, over a second and over longer.

Measured at the transport's entry, over all processes, one or all of them killed. The control shows
that the same load goes beyond what nobody looks at.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable
from contextlib import closing

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


def kill_all(mailer: Mailer) -> None:
    for pid in [mailer.process.pid, *mailer.children().values(), *mailer.workers()]:
        mailer.kill(pid)
    mailer.process.wait()
    until(lambda: not mailer.senders())


def test_a_window_outlasts_the_kill_of_everything(start: Start) -> None:
    mailer = start(LIMITS="recorder=200/s, 60/6s", INTERACTIVE_RESERVE="0%")
    post_mixed(mailer, 1000, share=0.5)
    until(lambda: len(mailer.hand_overs()) > 40, within_s=10)
    kill_all(mailer)
    mailer.start_anew()
    until(lambda: len(mailer.hand_overs()) > 70, within_s=20)
    assert most_in(6.0, us(mailer.hand_overs())) <= 60


def test_control_what_nobody_looks_at_is_gone_beyond(start: Start) -> None:
    """No limit for the domain, and nothing on record of the window when all begins anew."""
    mailer = start(LIMITS="recorder=200/s, 60/30s", INTERACTIVE_RESERVE="0%")
    to_domain = post_mixed(mailer, 1000, share=0.5)
    until(lambda: len(mailer.hand_overs()) > 45, within_s=10)
    kill_all(mailer)
    with closing(sqlite3.connect(mailer.database)) as db, db:
        db.execute("DELETE FROM window_counts")
    mailer.start_anew()
    until(lambda: len(mailer.hand_overs()) > 100, within_s=20)
    calls = mailer.hand_overs()
    assert most_in(30.0, us(calls)) > 60
    assert most_in(1.0, us([call for call in calls if call.request_id in to_domain])) > 20
