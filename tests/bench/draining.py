"""Figures 3 and 4: how fast queued mail leaves; attempts and events are recorded with it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.bench.installed import Bench, filled, wrk
from tests.bench.report import Figure
from tests.ses.harness import FakeSes
from tests.waiting import until


def drain(
    directory: Path, machine: Mapping[str, Any], mails: int, senders: int = 2
) -> Iterator[Figure]:
    """Figure 3, first part: mail queued before the start, a transport that takes all at once."""
    filled(directory / "mailer.db", mails)
    bench = Bench(directory, command="supervise", SENDERS=str(senders))
    rate, cpu_us = _drained(bench, mails)
    bench.stop()
    bench.check()
    name = f"drain of {mails:,} queued mails, {senders} senders"
    yield _figure(3, machine, name, rate, "/s", ">= 25000")
    yield _figure(3, machine, f"… CPU a mail, {senders} senders", cpu_us, "µs")


def drain_ses(directory: Path, machine: Mapping[str, Any], mails: int) -> Iterator[Figure]:
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
        rate, cpu_us = _drained(bench, mails)
    finally:
        bench.stop()
        fake.stop()
    bench.check()
    yield _figure(3, machine, "SES in bulk: CPU of mailer a mail", cpu_us, "µs", "<= 60")
    yield _figure(3, machine, "… with the fake on the same cores", rate, "/s")


def _drained(bench: Bench, mails: int) -> tuple[float, float]:
    """Mails a second from the first that is sent to the last, and CPU microseconds a mail."""
    with closing(bench.store()) as store:
        first = until(lambda: _sent(bench, mails - store.batches.queued()), within_s=60)
        began, began_cpu_s = time.perf_counter(), bench.cpu_s()
        until(lambda: not store.batches.queued(), within_s=600)
        took_s, cpu_s = time.perf_counter() - began, bench.cpu_s() - began_cpu_s
    return (mails - first) / took_s, cpu_s / (mails - first) * 1e6


def _sent(bench: Bench, sent: int) -> int:
    assert bench.process.poll() is None, bench.log
    return sent


def through(directory: Path, machine: Mapping[str, Any], seconds: int) -> Iterator[Figure]:
    """Figure 4: single mails from the post to `sent` on disk, all processes at work."""
    bench = Bench(directory, NULL_BATCH="1")
    began = time.perf_counter()
    load = wrk(bench.url, "post.lua", seconds=seconds)
    with closing(bench.store()) as store:
        until(lambda: not store.batches.queued(), within_s=120)
        took_s = time.perf_counter() - began
        topic = store.topics.get("orders")
    bench.stop()
    bench.check()
    assert topic is not None
    assert topic.counters["sent"] >= load.requests - load.refused
    name = "from the post to `sent` on disk, single mails"
    yield _figure(4, machine, name, topic.counters["sent"] / took_s, "/s", ">= 4000")


def _figure(
    figure: int,
    machine: Mapping[str, Any],
    name: str,
    value: float,
    unit: str,
    target: str = "",
) -> Figure:
    limit = f"{machine['syncs_per_s']:,} syncs/s, {machine['cores']} cores"
    command = f"python -m tests.bench --only {figure}"
    return Figure(figure, name, value, unit, target, limit, command)
