"""Figures 7 and 9: what mailer costs while it runs, and how fast it learns of events."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from mailer.store import Store
from tests.bench.installed import BATCH, Bench, filled, wrk
from tests.bench.report import Figure
from tests.bench.signed import TOPIC_ARN, delivery
from tests.ses.authority import Authority
from tests.ses.harness import FakeSes
from tests.waiting import until

RATE = 500


def cost(directory: Path, seconds: int) -> Iterator[Figure]:
    """Figure 7: all processes at a steady 500/s through SES in bulk, then idle."""
    fake = FakeSes.start()
    fake.told(keep_mails=False)
    filled(directory / "mailer.db", RATE * (seconds + 6), transport="ses")
    bench = Bench(
        directory,
        TRANSPORT="ses",
        MAX_SEND_PER_SECOND=str(RATE),
        AWS_REGION="eu-central-1",
        AWS_ACCESS_KEY_ID="AKIATEST",
        AWS_SECRET_ACCESS_KEY="secret",
        AWS_ENDPOINT_URL_SESV2=fake.url,
        FROM_EMAIL="shop@example.org",
    )
    try:
        with closing(bench.store()) as store:
            time.sleep(3)  # the start is not the steady state
            began, cpu_s, waiting = time.perf_counter(), bench.cpu_s(), store.batches.queued()
            time.sleep(seconds)
            took_s = time.perf_counter() - began
            busy = (bench.cpu_s() - cpu_s) / took_s
            rate = (waiting - store.batches.queued()) / took_s
            memory = bench.memory_bytes()
            until(lambda: not store.batches.queued(), within_s=60)
        time.sleep(2)
        began, cpu_s = time.perf_counter(), bench.cpu_s()
        time.sleep(seconds)
        idle = (bench.cpu_s() - cpu_s) / (time.perf_counter() - began)
    finally:
        bench.stop()
        fake.stop()
    yield Figure(7, "rate of sending meanwhile", rate, "/s", ">= 490")
    yield Figure(7, "CPU at 500/s, SES in bulk", busy * 100, "% of a core", "<= 10")
    yield Figure(7, "memory of all processes then", memory / 1e6, "MB", "<= 200")
    yield Figure(7, "CPU when idle", idle * 100, "% of a core", "<= 0.5")


def events(directory: Path, mails: int, seconds: int, told: int) -> Iterator[Figure]:
    """Figure 9: signed deliveries posted as SNS does, while mail goes out at 200/s.

    `told` of them are signed beforehand; they begin anew should they not last.
    """
    certificates = directory / "certificates"
    certificates.mkdir()
    authority = Authority.make(certificates)
    filled(directory / "mailer.db", mails, sent=True)
    filled(directory / "mailer.db", 200 * (seconds + 30))
    bench = Bench(
        directory,
        MAX_SEND_PER_SECOND="200",
        NULL_BATCH="1",
        SNS_TOPIC_ARNS=TOPIC_ARN,
        SNS_CERT_DIR=str(certificates),
        AWS_REGION="eu-central-1",
    )
    try:
        with closing(bench.store()) as store:
            bodies = _deliveries(store, authority, told, directory / "bodies")
            waiting = store.batches.queued()
            began = time.perf_counter()
            load = wrk(bench.url, "events.lua", str(bodies), seconds=seconds, connections=32)
            rate = (waiting - store.batches.queued()) / (time.perf_counter() - began)
            topics = store.topics.list(after="", limit=100)
    finally:
        bench.stop()
    assert not load.refused, bench.log
    known = sum(topic.counters["deliveries"] for topic in topics)
    assert known >= min(told, load.requests), (known, load)
    bench.check()
    limit = f"{_verifications_per_s(authority):,.0f} RSA verifications/s"
    yield Figure(9, f"signed SNS events into {mails:,} mails", load.per_s, "/s", ">= 3000", limit)
    yield Figure(9, "… sending meanwhile, of 200/s", rate, "/s", ">= 196", limit)


def _deliveries(store: Store, authority: Authority, number: int, path: Path) -> Path:
    """So many signed notifications, one a line, of mails that were sent."""
    first = store.mails.list(limit=1)[0].batch_id
    with path.open("w") as file:
        for n in range(number):
            file.write(delivery(authority, f"{first}-{n % BATCH}") + "\n")
    return path


def _verifications_per_s(authority: Authority) -> float:
    signature = authority.key.sign(b"x", padding.PKCS1v15(), hashes.SHA256())
    public = authority.key.public_key()
    began = time.perf_counter()
    for _ in range(2_000):
        public.verify(signature, b"x", padding.PKCS1v15(), hashes.SHA256())
    return 2_000 / (time.perf_counter() - began)
