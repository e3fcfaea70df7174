"""Figures 7, 8 and 9: what mailer costs while it runs, and what a full database changes."""

from __future__ import annotations

import json
import os
import random
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from statistics import quantiles
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from mailer.store import Store
from mailer.store.queue import Ask
from tests.bench.installed import BATCH, RULES, Bench, filled, wrk
from tests.bench.report import Figure
from tests.ses.authority import Authority
from tests.ses.harness import FakeSes
from tests.waiting import until

RATE = 500
LOOKS = 500
TOPIC_ARN = "arn:aws:sns:eu-central-1:123456789012:ses-events"


def cost(directory: Path, machine: Mapping[str, Any], seconds: int) -> Iterator[Figure]:
    """Figure 7: all processes at a steady 500/s through SES in bulk, then idle."""
    fake = FakeSes.start()
    fake.told(keep_mails=False)
    filled(directory / "mailer.db", RATE * (seconds + 10), transport="ses")
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
    cores = f"{machine['cores']} cores"
    yield _figure(7, "rate of sending meanwhile", rate, "/s", ">= 490", cores)
    yield _figure(7, "CPU at 500/s, SES in bulk", busy * 100, "% of a core", "<= 10", cores)
    yield _figure(7, "memory of all processes then", memory / 1e6, "MB", "<= 200", cores)
    yield _figure(7, "CPU when idle", idle * 100, "% of a core", "<= 0.5", cores)


def stored(directory: Path, machine: Mapping[str, Any], sizes: list[int]) -> Iterator[Figure]:
    """Figure 8: four looks at a database of so many mails, half of them sent."""
    at_first: dict[str, float] = {}
    for mails in sizes:
        database = directory / f"{mails}.db"
        filled(database, mails // 2, sent=True)
        filled(database, mails - mails // 2)
        with closing(Store(database, RULES)) as store:
            for name, look in _looks(store, mails).items():
                took_ms = _p99_ms(look)
                small = at_first.setdefault(name, took_ms)
                limit = f"{small:.2g} ms at {sizes[0]:,} mails"
                what = f"{name} with {mails:,} mails, p99"
                yield _figure(8, what, took_ms, "ms", "<= 5", limit)
                if mails != sizes[0]:
                    yield _figure(
                        8, f"… ÷ that at {sizes[0]:,}", took_ms / small, "", "<= 2", limit
                    )
        for part in directory.glob(f"{mails}.db*"):
            if part.is_file():
                part.unlink()


def _looks(store: Store, mails: int) -> Mapping[str, Callable[[], object]]:
    some = store.mails.list(recipient="reader1@example.org")
    batch_id = some[0].batch_id
    within = min(BATCH, mails // 2)
    ask = Ask(
        sender=0,
        transport="null",
        queues=("null",),
        rates={},
        batch_size=5,
        calls=1,
        calls_bulk=1,
    )

    def claim() -> None:
        with store.write():
            assert store.queue.claim(ask, now_ms=time.time_ns() // 10**6, now_us=0).leases

    return {
        "claim of 5": claim,
        "topic results": lambda: store.topics.get(f"news/{random.randrange(10)}"),
        "mail by id": lambda: store.mails.get(f"{batch_id}-{random.randrange(within)}"),
        "list by recipient": lambda: store.mails.list(
            recipient=f"reader{random.randrange(mails // 2)}@example.org"
        ),
    }


def _p99_ms(look: Callable[[], object]) -> float:
    took = []
    for _ in range(LOOKS):
        began = time.perf_counter()
        look()
        took.append((time.perf_counter() - began) * 1000)
    return quantiles(took, n=100)[98]


def events(
    directory: Path, machine: Mapping[str, Any], mails: int, seconds: int
) -> Iterator[Figure]:
    """Figure 9: signed deliveries posted as SNS does, while mail goes out at 200/s."""
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
            bodies = _deliveries(store, authority, 5_000 * seconds, directory / "bodies")
            waiting = store.batches.queued()
            began = time.perf_counter()
            load = wrk(bench.url, "events.lua", str(bodies), seconds=seconds, connections=32)
            rate = (waiting - store.batches.queued()) / (time.perf_counter() - began)
    finally:
        bench.stop()
    assert not load.refused, bench.log
    bench.check()
    limit = f"{machine['syncs_per_s']:,} syncs/s, {_verifications_per_s(authority):,.0f} RSA/s"
    name = f"signed SNS events into {mails:,} mails"
    yield _figure(9, name, load.per_s, "/s", ">= 3000", limit)
    yield _figure(9, "… sending meanwhile, of 200/s", rate, "/s", ">= 196", limit)


def _deliveries(store: Store, authority: Authority, number: int, path: Path) -> Path:
    """So many signed Delivery notifications, one a line, of mails that were sent."""
    first = store.mails.list(limit=1)[0].batch_id
    with path.open("w") as file:
        for n in range(number):
            at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
            told = {
                "eventType": "Delivery",
                "mail": {
                    "timestamp": at,
                    "messageId": f"bench-{n}",
                    "tags": {"mailer-request-id": [f"{first}-{n % BATCH}"]},
                },
                "delivery": {"timestamp": at, "recipients": ["reader@example.org"]},
            }
            envelope = {
                "Type": "Notification",
                "MessageId": str(uuid.UUID(bytes=os.urandom(16))),
                "TopicArn": TOPIC_ARN,
                "Message": json.dumps(told),
                "Timestamp": at,
            }
            file.write(json.dumps(authority.sign(envelope)) + "\n")
    return path


def _verifications_per_s(authority: Authority) -> float:
    signature = authority.key.sign(b"x", padding.PKCS1v15(), hashes.SHA256())
    public = authority.key.public_key()
    began = time.perf_counter()
    for _ in range(2_000):
        public.verify(signature, b"x", padding.PKCS1v15(), hashes.SHA256())
    return 2_000 / (time.perf_counter() - began)


def _figure(figure: int, name: str, value: float, unit: str, target: str, limit: str) -> Figure:
    command = f"python -m tests.bench --only {figure}"
    return Figure(figure, name, value, unit, target, limit, command)
