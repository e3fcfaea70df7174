"""Figure 10: a queue of millions. What it does to the start, to memory, and to those who post.

The largest stock is used: half of it is queued, the other half old enough to be pruned. A client
posts 50 mails a second throughout, and no answer should be late for what goes on beside it.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

from mailer import duties
from mailer.store import Store
from tests.bench.arithmetic import percentile
from tests.bench.client import Client, posting
from tests.bench.installed import RULES, Bench
from tests.bench.report import Figure
from tests.bench.stored import COMPARED_WITH, ELSEWHERE, Stock
from tests.waiting import until

RATE: Final = 200
POSTS: Final = 50
SMALL: Final = COMPARED_WITH


def queued(directory: Path, stock: Stock, seconds: int) -> Iterator[Figure]:
    """Figure 10, in the order of a day: started, sending, pruned, backed up."""
    with (
        _sending(stock.copied(SMALL, directory / "small")) as small,
        posting(directory / "quiet", small.port, POSTS) as client,
    ):
        time.sleep(seconds)
        small_bytes = small.memory_bytes()
    yield from _waits(f"with {SMALL // 2:,} queued", client.waits_ms(0.0))

    place, mails = stock.at(stock.largest), stock.queued(stock.largest)
    yield from _started(place, mails, seconds, small_bytes)
    with (
        _sending(place) as bench,
        closing(bench.store()) as store,
        posting(directory / "posts", bench.port, POSTS) as client,
    ):
        old = _old(store, stock)
        time.sleep(seconds)
        since_s, waiting = time.time(), store.batches.queued()
        time.sleep(3 * seconds)
        took_s, left = time.time() - since_s, store.batches.queued()
        pruned = old - _old(store, stock)
        waits_ms = client.waits_ms(since_s, since_s + took_s)
        yield from _waits("while old mail is pruned", waits_ms, "<= 50")
        rate = (waiting + len(waits_ms) - left) / took_s
        yield Figure(10, "… sending meanwhile, of 200/s", rate, "/s", ">= 196")
        yield Figure(10, "… mails pruned meanwhile", pruned, "mails")
        if old > pruned:
            yield from _pruned(store, stock, client)
        yield from _backed_up(directory, bench, client)
        ratio = bench.memory_bytes() / small_bytes
    limit = f"{small_bytes / 1e6:.0f} MB with {SMALL // 2:,} queued"
    yield Figure(
        10, f"memory after all that ÷ with {SMALL // 2:,} queued", ratio, "", "<= 1.1", limit
    )


def _sending(place: Path) -> Bench:
    return Bench(
        place,
        TRANSPORT=ELSEWHERE,
        NULL_NAME=ELSEWHERE,
        MAX_SEND_PER_SECOND=f"{RATE}",
        RETENTION_DAYS="30",
    )


def _started(place: Path, mails: int, seconds: int, small_bytes: int) -> Iterator[Figure]:
    """Until the API answers, and until a mail is sent and on record."""
    with closing(Store(place / "mailer.db", RULES)) as store:
        waiting = store.batches.queued()
        began = time.perf_counter()
        with _sending(place) as bench:
            ready_s = time.perf_counter() - began
            until(lambda: store.batches.queued() < waiting, within_s=60)
            first_s = time.perf_counter() - began
            time.sleep(seconds)
            memory = bench.memory_bytes()
    yield Figure(10, f"start with {mails:,} queued until the API answers", ready_s, "s", "<= 2")
    yield Figure(10, "… until the first mail is sent and on record", first_s, "s", "<= 2")
    limit = f"{small_bytes / 1e6:.0f} MB with {SMALL // 2:,} queued"
    yield Figure(10, "memory of all processes", memory / 1e6, "MB", "<= 200", limit)
    ratio = memory / small_bytes
    yield Figure(10, f"… ÷ with {SMALL // 2:,} queued", ratio, "", "<= 1.1", limit)


def _waits(when: str, waits_ms: Sequence[float], target: str = "") -> Iterator[Figure]:
    yield Figure(10, f"longest wait of 50 posts a second {when}", max(waits_ms), "ms", target)
    yield Figure(10, "… 99 of 100 within", percentile(waits_ms, 99), "ms")


def _old(store: Store, stock: Stock) -> int:
    """How many mails of the old half are left."""
    batches = (store.batches.get(batch_id) for batch_id, _ in stock.sent(stock.largest))
    return sum(sum(batch.states.values()) for batch in batches if batch)


def _pruned(store: Store, stock: Stock, client: Client) -> Iterator[Figure]:
    """The supervisor's duty, again and again without its pauses, until nothing old is left."""
    old = _old(store, stock)
    last, _ = stock.sent(stock.largest)[-1]
    since_s = time.time()
    for _ in range(old // 1_000 + 10):  # far more turns than it takes
        if not store.batches.get(last):
            break
        duties.prune(store, time.time_ns() // 10**6, 30 * duties.DAY_MS, 0)
    took_s = time.time() - since_s
    assert _old(store, stock) == 0
    yield Figure(10, f"prune of {old:,} mails, without the pauses of the duty", took_s, "s")
    yield from _waits("meanwhile", client.waits_ms(since_s))


def _backed_up(directory: Path, bench: Bench, client: Client) -> Iterator[Figure]:
    copy = directory / "copy.db"
    since_s = time.time()
    done = subprocess.run(
        [*bench.command_of("backup"), str(copy), "--json"],
        env=bench.environ,
        cwd=bench.directory,
        capture_output=True,
        text=True,
        check=True,
    )
    took_s = time.time() - since_s
    rows, size_bytes = json.loads(done.stdout)["rows"], copy.stat().st_size
    copy.unlink()
    assert rows["mails"] > 0
    what = f"back-up of {rows['mails']:,} mails ({size_bytes / 1e9:.2g} GB), copied and checked"
    yield Figure(10, what, took_s, "s")
    yield from _waits("while it is backed up", client.waits_ms(since_s), "<= 50")
