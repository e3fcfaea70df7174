"""SES out of reach, silent, failing or not SES at all: mail waits, little is tried, none is lost.

Real processes send over TLS through a gateway that fails in one way after the other. By default
the ways that take different paths, each for some seconds; with MAILER_FULL=1 all, and long.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.counts import FULL
from tests.process.harness import CLOCK, Mailer, addresses
from tests.ses.gateway import Gateway
from tests.ses.harness import FakeSes
from tests.waiting import until

Start = Callable[..., Mailer]

RATE = 100
SETTLED_S = 3.0
"""Until then calls that were in flight end, and the pauses are still short."""
SOME = {"500": 5.0, "swallow": 5.0, "expired certificate": 5.0}
ALL = {
    "500": 600.0, "refuse": 600.0, "hang": 60.0, "reset": 60.0, "swallow": 60.0, "throttle": 60.0,
    "strange certificate": 60.0, "expired certificate": 60.0, "drip": 60.0,
}  # fmt: skip
"""How SES is out of order, and for how long."""


@pytest.fixture
def gateway(ses: FakeSes, tmp_path: Path) -> Iterator[Gateway]:
    gateway = Gateway(tmp_path, ses.port)
    yield gateway
    gateway.stop()


def is_past(instant_us: int) -> bool:
    return CLOCK.mono_us() > instant_us


def copies(ses: FakeSes) -> Counter[str]:
    """How many copies of each mail SES has taken."""
    return Counter(mail["tags"]["mailer_request_id"] for mail in ses.mails())


def at_full_rate(ses: FakeSes, since_us: int) -> float:
    """Wait until a second's worth has come within little more than one; seconds it took."""
    counts = [(CLOCK.mono_us(), ses.count())]

    def full() -> bool:
        counts.append((CLOCK.mono_us(), ses.count()))
        recent = [count for at_us, count in counts if at_us > counts[-1][0] - 1_200_000]
        return recent[-1] - recent[0] >= 0.8 * RATE

    until(full, within_s=40)
    return (counts[-1][0] - since_us) / 1e6


@pytest.mark.timeout(3600)
def test_outages_cost_no_mail_and_few_attempts(
    ses: FakeSes, gateway: Gateway, start: Start
) -> None:
    mailer = start(
        gateway.url,
        AWS_CA_BUNDLE=str(gateway.ca_file),
        TRANSPORT="quick_ses",
        MAX_SEND_PER_SECOND=str(RATE),
    )
    ids: list[str] = []
    for how, lasts_s in (ALL if FULL else SOME).items():
        ids += mailer.accepted(*addresses(RATE * 8, how.replace(" ", "-")), lane="bulk")
        at_full_rate(ses, CLOCK.mono_us())
        failed_us = CLOCK.mono_us()
        gateway.fail(how)
        until(partial(is_past, failed_us + int(lasts_s * 1e6)), within_s=lasts_s + 5)
        gateway.mend()
        full_after_s = at_full_rate(ses, CLOCK.mono_us())

        later = [us for us in gateway.attempts_us if us > failed_us + SETTLED_S * 1e6]
        print(
            f"{how}: {len(gateway.attempts_us)} attempts in {lasts_s} s, {len(later)} of them after"
            f" {SETTLED_S} s; full rate {full_after_s:.1f} s after it"
        )
        assert gateway.attempts_us
        assert len(later) <= 1 + (lasts_s - SETTLED_S) / 5
        assert full_after_s <= 30
        if "certificate" in how or how == "refuse":
            assert gateway.heard_bytes == 0
        assert set(mailer.states()) <= {"pending", "sending", "uncertain", "sent"}

    if FULL:
        until(mailer.finished, within_s=180)
    said = said_to_be_sent(mailer)
    taken = copies(ses)
    assert said <= set(taken) <= set(ids)
    assert not FULL or said == set(ids)
    assert {mail for mail, count in taken.items() if count > 1} <= set(mailer.uncertain_events())
    control_a_lie_is_seen(ses, gateway, mailer)


def said_to_be_sent(mailer: Mailer) -> set[str]:
    """The public ids of mails that are sent, as mailer has it."""
    rows = mailer.rows(
        "SELECT b.batch_id || '-' || (m.id - b.id)"
        " FROM mails m JOIN batches b ON b.id = m.batch WHERE m.state = 'sent'"
    )
    return {request_id for (request_id,) in rows}


def control_a_lie_is_seen(ses: FakeSes, gateway: Gateway, mailer: Mailer) -> None:
    """The check above finds mail that is said to be sent and is lost."""
    gateway.fail("lie")
    lost = set(mailer.accepted(*addresses(20, "lost"), lane="interactive"))
    until(lambda: lost <= said_to_be_sent(mailer))
    assert not lost & set(copies(ses))
