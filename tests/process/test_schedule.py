"""Due mail is handed over at once: scheduled mail at its time, interactive mail before any bulk."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from mailer.wake import wake_directory
from tests.counts import FULL
from tests.process.harness import CLOCK, Mailer, addresses
from tests.waiting import until

pytestmark = pytest.mark.alone

Start = Callable[..., Mailer]

ROUNDS = 100 if FULL else 6
BULK = 100_000


def entered_us(mailer: Mailer, request_id: str, within_s: float = 10) -> int:
    """When a mail entered the transport."""

    def found() -> int:
        calls = {call.request_id: call.at_us for call in mailer.hand_overs()}
        return calls.get(request_id, 0)

    return until(found, within_s=within_s)


def lateness_ms(mailer: Mailer, in_ms: int) -> float:
    """How long after its time a mail scheduled so far ahead is handed over."""
    due = datetime.now(UTC) + timedelta(milliseconds=in_ms)
    (mail,) = mailer.accepted("later@example.com", scheduled_at=due.isoformat())
    wall_ahead_us = time.time_ns() // 1000 - CLOCK.mono_us()
    due_us = due.timestamp() * 1e6 - wall_ahead_us
    return (entered_us(mailer, mail) - due_us) / 1000


def test_scheduled_mail_is_handed_over_within_100_ms_of_its_time(start: Start) -> None:
    mailer = start(MAX_SEND_PER_SECOND="200")
    late = [lateness_ms(mailer, 300 + 170 * (n % 10)) for n in range(ROUNDS)]
    print(f"\nhanded over {min(late):.1f} to {max(late):.1f} ms after due")
    assert min(late) >= 0
    assert max(late) <= 100


def test_without_wake_ups_it_takes_at_most_a_second(start: Start) -> None:
    mailer = start(MAX_SEND_PER_SECOND="200")
    shutil.rmtree(wake_directory(mailer.database))
    late = [lateness_ms(mailer, 20 + 50 * (n % 10)) for n in range(ROUNDS)]
    waits_ms = []
    for _ in range(ROUNDS):
        posted_us = CLOCK.mono_us()
        (mail,) = mailer.accepted("now@example.com")
        waits_ms.append((entered_us(mailer, mail) - posted_us) / 1000)
    print(
        f"\nscheduled: at most {max(late):.1f} ms late; posted: after at most {max(waits_ms):.1f}"
    )
    assert min(late) >= 0
    assert max(*late, *waits_ms) <= 1000
    # The control of the wake-up: without it, mail that has just come waits for the next look.
    assert max(waits_ms) > 100


def test_a_wake_up_brings_mail_to_the_transport_at_once(start: Start) -> None:
    mailer = start(MAX_SEND_PER_SECOND="200")
    waits_ms = []
    for _ in range(ROUNDS):
        posted_us = CLOCK.mono_us()
        (mail,) = mailer.accepted("now@example.com")
        waits_ms.append((entered_us(mailer, mail) - posted_us) / 1000)
    print(f"\nhanded over at most {max(waits_ms):.1f} ms after the request began")
    assert max(waits_ms) <= 100


def test_an_interactive_mail_overtakes_a_long_queue(start: Start) -> None:
    mailer = start(MAX_SEND_PER_SECOND="20")
    for n in range(BULK // 10_000):
        mailer.accepted(*addresses(10_000, f"bulk{n}"), topic_id="bulk")
    waits_ms = []
    for _ in range(ROUNDS):
        posted_us = CLOCK.mono_us()
        (mail,) = mailer.accepted("now@example.com")
        waits_ms.append((entered_us(mailer, mail) - posted_us) / 1000)
    in_bulk_lane_us = CLOCK.mono_us()
    (last,) = mailer.accepted("patient@example.com", lane="bulk")
    sent = mailer.states()["sent"]
    print(f"\nwith {BULK - sent} mails waiting: at most {max(waits_ms):.1f} ms")
    assert mailer.states()["pending"] > BULK * 0.9
    assert max(waits_ms) <= 1000
    # The control: in the bulk lane the same mail waits its turn.
    until(lambda: CLOCK.mono_us() > in_bulk_lane_us + 1_500_000)
    assert last not in {call.request_id for call in mailer.hand_overs()}
