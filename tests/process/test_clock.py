"""Steps of the wall clock, while mail is sent: the rate, the leases and the duties don't see them.

A library loaded before libc moves the wall clock of all of mailer's processes, live; the monotonic
clock goes on, as it does at a step by NTP or by hand.
"""

from __future__ import annotations

import struct
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from tests.counts import FULL
from tests.process.harness import CLOCK, Mailer, addresses, most_in_a_second
from tests.waiting import until

Start = Callable[..., Mailer]

RATE = 200
SECOND, HOUR, DAY = 1, 3600, 86400
SOURCE = Path(__file__).with_name("clock_shim.c")


class WallClock:
    """The wall clock of the processes that have this environment."""

    def __init__(self, directory: Path) -> None:
        self._library = directory / "clock.so"
        self._offset = directory / "offset"
        self.set(0)
        command = ["cc", "-shared", "-fPIC", "-O1", "-o", str(self._library), str(SOURCE), "-ldl"]
        subprocess.run(command, check=True)

    @property
    def environ(self) -> dict[str, str]:
        return {"LD_PRELOAD": str(self._library), "WALL_CLOCK_OFFSET": str(self._offset)}

    def set(self, offset_s: float) -> None:
        """So far from the true time, from this instant on."""
        with self._offset.open("r+b" if self._offset.exists() else "wb") as file:
            file.write(struct.pack("=q", int(offset_s * 1e9)))

    def now(self) -> datetime:
        """What those processes see."""
        (ns,) = struct.unpack("=q", self._offset.read_bytes())
        return datetime.now(UTC) + timedelta(microseconds=ns / 1000)


@pytest.fixture
def wall_clock(tmp_path: Path) -> WallClock:
    return WallClock(tmp_path)


def since_epoch(year: int) -> float:
    """How far a year is from now."""
    return datetime(year, 1, 2, tzinfo=UTC).timestamp() - time.time()


STEPS = {
    "a second": (SECOND, -SECOND),
    "an hour": (HOUR, -HOUR),
    "a day": (DAY, -DAY),
    "1970": (since_epoch(1970),),
    "2106": (since_epoch(2106),),
}


@pytest.mark.alone
@pytest.mark.parametrize("step", STEPS if FULL else ["an hour", "1970", "2106"])
def test_sending_goes_on_at_the_limit(start: Start, wall_clock: WallClock, step: str) -> None:
    mailer = start(MAX_SEND_PER_SECOND=str(RATE), **wall_clock.environ)
    before = mailer.senders()
    offsets_s = (*STEPS[step], 0)
    mails = mailer.accepted(*addresses(RATE * 2 * (len(offsets_s) + 1)))
    until(lambda: len(mailer.hand_overs()) > RATE)
    for offset_s in offsets_s:
        wall_clock.set(offset_s)
        mailer.await_more(RATE * 3 // 2, within_s=5)
        mailer.accepted("one@example.com", topic_id="single")
    until(mailer.finished)
    calls = mailer.hand_overs()
    instants = [call.at_us for call in calls]
    longest_s = max(b - a for a, b in pairwise(instants)) / 1e6
    print(f"\n{step}: worst window {most_in_a_second(instants)}, longest pause {longest_s:.3f} s")
    assert most_in_a_second(instants) <= RATE
    assert longest_s <= 1
    assert len(calls) == len(mails) + len(offsets_s)
    assert mailer.senders() == before
    assert mailer.uncertain_events() == {}
    assert mailer.finished()


@pytest.mark.parametrize("step_s", [SECOND, -SECOND, HOUR, -HOUR] if FULL else [SECOND, -HOUR])
def test_scheduled_mail_is_early_by_the_step_at_most(
    start: Start, wall_clock: WallClock, step_s: int
) -> None:
    mailer = start(MAX_SEND_PER_SECOND=str(RATE), **wall_clock.environ)
    posted_us = CLOCK.mono_us()
    due = datetime.now(UTC) + timedelta(seconds=3)
    mailer.accepted("later@example.com", scheduled_at=due.isoformat())
    wall_clock.set(step_s)
    if step_s < -3:  # else it comes by itself
        until(lambda: CLOCK.mono_us() > posted_us + 4_000_000)
        assert mailer.hand_overs() == []
        wall_clock.set(0)
    until(mailer.hand_overs)
    late_s = (mailer.hand_overs()[0].at_us - posted_us) / 1e6 - 3
    assert late_s >= -step_s - 0.1 if step_s > 0 else late_s >= 0


@pytest.mark.parametrize("step_s", [-HOUR, HOUR] if FULL else [-HOUR])
def test_duties_go_on_and_settle_what_a_dead_sender_left(
    start: Start, wall_clock: WallClock, step_s: int
) -> None:
    mailer = start(MAX_SEND_PER_SECOND=str(RATE), behaviour={"delay_ms": 100}, **wall_clock.environ)
    wall_clock.set(step_s)
    mails = mailer.accepted(*addresses(RATE * 3))
    until(lambda: len(mailer.hand_overs()) > RATE)
    mailer.kill(mailer.senders()["sender 1"])
    until(mailer.uncertain_events, within_s=3)
    until(mailer.finished, within_s=20)
    assert {call.request_id for call in mailer.hand_overs()} == set(mails)
    mailer.assert_sound()


def test_control_the_library_moves_what_the_processes_see(
    start: Start, wall_clock: WallClock
) -> None:
    mailer = start(**wall_clock.environ)
    wall_clock.set(HOUR)
    in_half_an_hour = datetime.now(UTC) + timedelta(minutes=30)
    (mail,) = mailer.accepted("early@example.com", scheduled_at=in_half_an_hour.isoformat())
    until(mailer.hand_overs)
    accepted_at = datetime.fromisoformat(mailer.get(f"/v1/mails/{mail}").json["accepted_at"])
    assert abs(accepted_at - wall_clock.now()) < timedelta(seconds=10)
