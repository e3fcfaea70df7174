"""Figures 5 and 6: how soon mail is handed over, and how exactly the limit is kept and used."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.bench.arithmetic import percentile
from tests.bench.report import Figure
from tests.process.harness import Mailer, most_in_a_second
from tests.process.test_limits import run_burst, use
from tests.waiting import until

RATE = 200


def waits(directory: Path, seconds: int) -> Iterator[Figure]:
    """Figure 5: single mails posted at 200/s, and as many scheduled over the same time."""
    mailer = Mailer(directory, MAX_SEND_PER_SECOND="unlimited", API_WORKERS="2")
    try:
        after_answer, whole = waits_at_200(mailer, seconds)
        median, p99 = percentile(after_answer, 50), percentile(after_answer, 99)
        yield Figure(5, "answer → hand-over at 200/s, median", median, "ms", "<= 2")
        yield Figure(5, "answer → hand-over at 200/s, p99", p99, "ms", "<= 10")
        yield Figure(5, "post begun → hand-over at 200/s, p99", percentile(whole, 99), "ms")
        yield from _scheduled(mailer, seconds)
    finally:
        mailer.end()


def waits_at_200(mailer: Mailer, seconds: int) -> tuple[list[float], list[float]]:
    """Milliseconds to the hand-over of each mail: from the answer, and from the post's begin."""
    wanted = RATE * seconds
    answered_us: dict[str, int] = {}
    begun_us: dict[str, int] = {}
    start = time.monotonic()
    for number in range(wanted):
        _sleep_until(start + number / RATE)
        begun = time.monotonic_ns() // 1000
        (request_id,) = mailer.accepted(f"reader{number}@example.org")
        answered_us[request_id] = time.monotonic_ns() // 1000
        begun_us[request_id] = begun
    until(lambda: len(mailer.hand_overs()) >= wanted, within_s=30)
    handed_us = {call.request_id: call.at_us for call in mailer.hand_overs()}
    # The answer comes after the commit, so that a wait can be below nothing: it counts as 0.
    after_answer = [max(0, at - answered_us[mail]) / 1000 for mail, at in handed_us.items()]
    whole = [(at - begun_us[mail]) / 1000 for mail, at in handed_us.items()]
    return after_answer, whole


def _scheduled(mailer: Mailer, seconds: int) -> Iterator[Figure]:
    """Mails due one after the other; how late each is handed over."""
    done = len(mailer.hand_overs())
    first_due = datetime.now(UTC) + timedelta(seconds=3)
    due_ms: dict[str, float] = {}
    for number in range(20 * seconds):
        due = first_due + timedelta(milliseconds=50 * number)
        when = due.isoformat(timespec="milliseconds")
        (request_id,) = mailer.accepted(f"later{number}@example.org", scheduled_at=when)
        due_ms[request_id] = due.timestamp() * 1000
    until(lambda: len(mailer.hand_overs()) >= done + len(due_ms), within_s=seconds + 30)
    ahead_ms = time.time() * 1000 - time.monotonic() * 1000
    late = [
        call.at_us / 1000 + ahead_ms - due_ms[call.request_id]
        for call in mailer.hand_overs()
        if call.request_id in due_ms
    ]
    assert min(late) > -1, "nothing goes before it is due"
    p99 = percentile(late, 99)
    yield Figure(5, "due → hand-over of scheduled mail, p99", p99, "ms", "<= 50")


def limits(
    directory: Path, seconds: int, rates: Sequence[int], all_senders: Sequence[int]
) -> Iterator[Figure]:
    """Figure 6: the worst second and the use of the limit, single and bulk, 1, 2 and 4 senders."""
    for rate in rates:
        for senders in all_senders:
            for batch_size in (1, 50):
                place = directory / f"{rate}-{senders}-{batch_size}"
                place.mkdir()
                mailer = Mailer(
                    place,
                    behaviour={"batch_size": batch_size},
                    MAX_SEND_PER_SECOND=str(rate),
                    SENDERS=str(senders),
                )
                try:
                    instants_us = run_burst(mailer, rate, seconds)
                    worst = most_in_a_second([call.at_us for call in mailer.hand_overs()])
                finally:
                    mailer.end()
                what = f"{rate}/s, {senders} senders, {batch_size} a call"
                share = use(instants_us, rate)
                yield Figure(6, f"worst second ÷ limit, {what}", worst / rate, "", "<= 1.0")
                yield Figure(6, f"use of the limit, {what}", share, "", ">= 0.98")


def _sleep_until(instant: float) -> None:
    time.sleep(max(0.0, instant - time.monotonic()))
