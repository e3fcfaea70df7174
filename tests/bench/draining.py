"""Figures 3 and 4: how fast queued mail leaves; attempts and events are recorded with it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from tests.bench.installed import Bench, Load, filled, wrk
from tests.bench.report import Figure
from tests.ses.harness import FakeSes
from tests.waiting import until


def drain(directory: Path, mails: int) -> Iterator[Figure]:
    """Figure 3, first part: mail queued before the start, a transport that takes all at once."""
    filled(directory / "mailer.db", mails)
    with Bench(directory, command="supervise") as bench:
        rate, cpu_us = drained(bench, mails)
    bench.check()
    yield Figure(3, f"drain of {mails:,} queued mails, 2 senders", rate, "/s", ">= 25000")
    yield Figure(3, "… CPU a mail, 2 senders", cpu_us, "µs")


def drain_ses(directory: Path, mails: int) -> Iterator[Figure]:
    """Figure 3, second part: SES in bulk, against the fake on loopback."""
    fake = FakeSes.start()
    fake.told(keep_mails=False)
    filled(directory / "mailer.db", mails, transport="ses")
    bench = Bench(
        directory,
        command="supervise",
        TRANSPORT="ses",
        AWS_REGION="eu-central-1",
        AWS_ACCESS_KEY_ID="AKIATEST",
        AWS_SECRET_ACCESS_KEY="secret",
        AWS_ENDPOINT_URL_SESV2=fake.url,
        FROM_EMAIL="shop@example.org",
    )
    try:
        rate, cpu_us = drained(bench, mails)
    finally:
        bench.stop()
        fake.stop()
    bench.check()
    yield Figure(3, "SES in bulk: CPU of mailer a mail", cpu_us, "µs", "<= 60")
    yield Figure(3, "… with the fake on the same cores", rate, "/s")


def drained(bench: Bench, mails: int, elsewhere: int = 0) -> tuple[float, float]:
    """Mails a second from the first that is sent to the last, and CPU microseconds a mail.

    `elsewhere` is how many wait for another transport, and wait on.
    """
    with closing(bench.store()) as store:

        def left() -> int:
            return store.batches.queued() - elsewhere

        first = until(lambda: _sent(bench, mails - left()), within_s=60)
        began, began_cpu_s = time.perf_counter(), bench.cpu_s()
        until(lambda: not left(), within_s=600)
        took_s, cpu_s = time.perf_counter() - began, bench.cpu_s() - began_cpu_s
    return (mails - first) / took_s, cpu_s / (mails - first) * 1e6


def _sent(bench: Bench, sent: int) -> int:
    assert bench.process.poll() is None, bench.log
    return sent


def through(directory: Path, seconds: int) -> Iterator[Figure]:
    """Figure 4: single mails from the post to `sent` on disk, all processes at work."""
    with Bench(directory, NULL_BATCH="1") as bench:
        _, rate = posted_and_sent(bench, seconds)
    bench.check()
    yield Figure(4, "from the post to `sent` on disk, single mails", rate, "/s", ">= 4000")


def posted_and_sent(bench: Bench, seconds: int, elsewhere: int = 0) -> tuple[Load, float]:
    """Post singles; what the posts met with, and mails a second until the last was sent."""
    with closing(bench.store()) as store:
        began = time.perf_counter()
        load = wrk(bench.url, "post.lua", seconds=seconds)
        until(lambda: store.batches.queued() == elsewhere, within_s=120)
        took_s = time.perf_counter() - began
        topic = store.topics.get("orders")
    assert topic is not None
    assert not load.refused, bench.log
    assert topic.counters["sent"] >= load.requests
    return load, topic.counters["sent"] / took_s
