"""Figure 11, the soak: everything at once for as long as is asked, at a steady 300/s.

Mail is posted alone and in bulk, some of it bad; deliveries come in, signed; the API is looked at
and misused; old mail is pruned throughout. What should stay flat is sampled every ten seconds:
memory, file descriptors, the WAL, the wait of those who post.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

from mailer.store import Store
from tests.bench.arithmetic import line, percentile
from tests.bench.client import BAD_EVERY, Client, posting
from tests.bench.curves import MINUTES, point
from tests.bench.installed import Bench, filled
from tests.bench.report import Figure
from tests.bench.signed import TOPIC_ARN, delivery
from tests.bench.stored import OLD_MS
from tests.ses.authority import Authority
from tests.waiting import until

RATE: Final = 300
SINGLES: Final = 20
POSTS, RECIPIENTS = 4, 70
PRUNED_PER_S: Final = 2_000
"""What the supervisor's duty removes at most."""
PARTS: Final = 10
EVERY_S: Final = 10.0


@dataclass(frozen=True)
class Sample:
    at_s: float
    memory_bytes: int
    descriptors: int
    wal_bytes: int


def soak(directory: Path, minutes: float) -> Iterator[Figure]:
    """Figure 11."""
    seconds = minutes * 60
    certificates = directory / "certificates"
    certificates.mkdir()
    authority = Authority.make(certificates)
    database = directory / "mailer.db"
    filled(database, int(PRUNED_PER_S * seconds), sent=True, age_ms=OLD_MS)
    filled(database, 10 * RATE)
    with (
        Bench(
            directory,
            MAX_SEND_PER_SECOND=f"{RATE}",
            RETENTION_DAYS="30",
            SNS_TOPIC_ARNS=TOPIC_ARN,
            SNS_CERT_DIR=str(certificates),
            AWS_REGION="eu-central-1",
        ) as bench,
        closing(bench.store()) as store,
    ):
        with (
            posting(directory / "singles", bench.port, SINGLES) as singles,
            posting(directory / "bulk", bench.port, POSTS, RECIPIENTS) as bulk,
        ):
            until(lambda: singles.posts() and bulk.posts())
            samples, told = _loaded(bench, singles, authority, seconds)
        until(lambda: not store.batches.queued(), within_s=120)
        _all_there(store, singles, bulk, told)
    yield from _figures(samples, singles, seconds)


def _loaded(
    bench: Bench, client: Client, authority: Authority, seconds: float
) -> tuple[list[Sample], int]:
    """What was sampled while it ran, and how many deliveries were told of."""
    samples: list[Sample] = []
    began = time.monotonic()
    reached = told = 0
    for second in itertools.count():
        if time.monotonic() >= began + seconds:
            return samples, told
        sent = client.posts()[reached : max(reached, SINGLES * (second - 5))]
        mails = [f"{post.batch_id}-0" for n, post in enumerate(sent, reached) if n % BAD_EVERY]
        for mail in mails:
            answer = bench.request("POST", "/v1/events/results", delivery(authority, mail))
            assert answer.status == 200, answer.body
        reached += len(sent)
        told += len(mails)
        _look(bench, mails)
        if second % EVERY_S == 0:
            samples.append(_sample(bench))
        time.sleep(max(0.0, began + second + 1 - time.monotonic()))
    raise AssertionError


def _look(bench: Bench, mails: Sequence[str]) -> None:
    """What people ask, and what they get wrong."""
    asked = ["/v1/topics/others", "/v1/mails?state=failed&limit=10", "/v1/events?limit=10"]
    asked += [f"/v1/mails/{mail}" for mail in mails[:5]]
    for path in asked:
        assert bench.get(path).status == 200, path
    assert bench.post("/v1/messages", b"[").status == 400
    assert bench.send("nobody at example").status == 422
    assert bench.get("/v1/mails/none").status == 404


def _sample(bench: Bench) -> Sample:
    wal = bench.database.with_name("mailer.db-wal")
    return Sample(time.time(), bench.memory_bytes(), bench.descriptors(), wal.stat().st_size)


def _all_there(store: Store, singles: Client, bulk: Client, told: int) -> None:
    """Every mail that was accepted is finished, and every delivery is known."""
    in_bulk = RECIPIENTS * len(bulk.posts())
    topic = store.topics.get("others")
    assert topic is not None
    counters = topic.counters
    finished = counters["sent"] + counters["delivered"] + counters["failed"]
    assert finished == counters["total"] == len(singles.posts()) + in_bulk
    bad = [math.ceil(people / BAD_EVERY) for people in (len(singles.posts()), in_bulk)]
    assert counters["failed"] == sum(bad)
    assert counters["deliveries"] == told
    assert counters["delivered"] <= told  # a mail that was not sent yet stays as it was


def _figures(samples: Sequence[Sample], client: Client, seconds: float) -> Iterator[Figure]:
    """What it was in each tenth of the time, and how it changed after the first fifth."""
    began_s, part_s = samples[0].at_s, seconds / PARTS
    for part in range(PARTS):
        since_s, until_s = began_s + part * part_s, began_s + (part + 1) * part_s
        within = [one for one in samples if since_s <= one.at_s < until_s] or samples[-1:]
        at = round((part + 1) * part_s / 60, 3)
        for what, value, unit in (
            ("memory of all processes", median(s.memory_bytes for s in within) / 1e6, "MB"),
            ("open files and sockets", median(s.descriptors for s in within), ""),
            ("WAL at its largest", max(s.wal_bytes for s in within) / 1e6, "MB"),
        ):
            yield Figure(11, point(what, MINUTES, at), value, unit)
        if waits_ms := client.waits_ms(since_s, until_s):
            what = "wait of single posts, p99"
            yield Figure(11, point(what, MINUTES, at), percentile(waits_ms, 99), "ms")
    late = [one for one in samples if one.at_s >= began_s + seconds / 5] or samples
    slope = line([(one.at_s / 3600, one.memory_bytes / 1e6) for one in late]).b
    yield Figure(11, "memory, change after the first fifth", slope, "MB an hour", "<= 1")
    files = line([(one.at_s / 3600, one.descriptors) for one in late]).b
    what = "open files and sockets, change after the first fifth"
    yield Figure(11, what, files, "an hour", "<= 1")
    wal = max(one.wal_bytes for one in samples) / 1e6
    yield Figure(11, "WAL at its largest", wal, "MB", "<= 100")
    yield Figure(11, "longest wait of single posts", max(client.waits_ms(began_s)), "ms")
    before_ms = client.waits_ms(began_s + seconds / 5, began_s + seconds / 2)
    after_ms = client.waits_ms(began_s + seconds / 2)
    if before_ms and after_ms:
        before, after = percentile(before_ms, 99), percentile(after_ms, 99)
        what = "wait of single posts, p99 of the second half ÷ that of the first"
        limit = f"p99 {before:.3g} ms, then {after:.3g} ms"
        yield Figure(11, what, after / before, "", "<= 1.25", limit)
