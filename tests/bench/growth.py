"""Growth: figures 1 to 5 and 8 over stored mails and over senders, and what ends it.

What is written passes through SQLite's single writer. Its own speed, with nothing else at work, is
measured too: no number of senders or cores gets beyond it.
"""

from __future__ import annotations

import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

from mailer.hookspecs import Outcome
from mailer.mail import Content, NewBatch, NewMessage, Recipient
from mailer.store import Store
from mailer.store.migrate import migrate
from mailer.store.sent import Attempted
from mailer.vocabulary import OutcomeKind
from tests.bench.accepting import large_posts
from tests.bench.arithmetic import percentile
from tests.bench.curves import SENDERS, STORED, point
from tests.bench.draining import drained, posted_and_sent
from tests.bench.installed import NO_BOUND, RULES, Bench, filled, wrk
from tests.bench.pacing import waits_at_200
from tests.bench.report import Figure
from tests.bench.stored import COMPARED_WITH, ELSEWHERE, LOOKS, Stock
from tests.process.harness import Mailer
from tests.store.world import ask

WRITERS_TIME: Final = "time of SQLite's single writer that a mail takes, accepted alone and sent"
WRITERS_END: Final = "… so that no number of cores or senders gets beyond"

Measured = tuple[int, str, float, str]
"""Figure, what, value, unit: a point of a curve."""


def over_stored(
    directory: Path, stock: Stock, sizes: Sequence[int], seconds: int, mails: int
) -> Iterator[Figure]:
    """Figures 1 to 5 with so many mails in the database before they begin; `mails` are drained.

    What leaves mail in the queue comes last: the largest database is used again and again.
    """
    ways: tuple[Callable[[Path, int, int, int], Measured], ...] = (
        _drain,
        _through,
        _waits,
        _singles,
        _large,
    )
    for size in sizes:
        for way in ways:
            # What is added to the largest changes little: all do with one copy of it.
            name = f"{size}" if size == stock.largest else f"{size}-{way.__name__}"
            place = directory / name
            if not place.exists():
                stock.copied(size, place)
            figure, what, value, unit = way(place, stock.queued(size), seconds, mails)
            yield Figure(figure, point(what, STORED, size), value, unit)
            if size != stock.largest:
                shutil.rmtree(place)


def _drain(place: Path, elsewhere: int, _seconds: int, mails: int) -> Measured:
    filled(place / "mailer.db", mails)
    with Bench(place, command="supervise") as bench:
        rate, _ = drained(bench, mails, elsewhere)
    return 3, "drain of queued mails", rate, "/s"


def _through(place: Path, elsewhere: int, seconds: int, _mails: int) -> Measured:
    with Bench(place, NULL_BATCH="1") as bench:
        _, rate = posted_and_sent(bench, seconds, elsewhere)
    return 4, "from the post to `sent`", rate, "/s"


def _waits(place: Path, _elsewhere: int, seconds: int, _mails: int) -> Measured:
    return 5, "answer → hand-over at 200/s, p99", _p99_wait_ms(place, seconds), "ms"


def _p99_wait_ms(place: Path, seconds: int, senders: int = 2) -> float:
    mailer = Mailer(
        place,
        MAX_SEND_PER_SECOND="unlimited",
        SENDERS=f"{senders}",
        MAX_QUEUED=NO_BOUND["MAX_QUEUED"],
        RETENTION_DAYS=NO_BOUND["RETENTION_DAYS"],
    )
    try:
        return percentile(waits_at_200(mailer, seconds)[0], 99)
    finally:
        mailer.end()


def _singles(place: Path, _elsewhere: int, seconds: int, _mails: int) -> Measured:
    with Bench(place, command="serve") as bench:
        load = wrk(bench.url, "post.lua", seconds=seconds)
    assert not load.refused, bench.log
    return 1, "durable single posts", load.per_s, "/s"


def _large(place: Path, _elsewhere: int, seconds: int, _mails: int) -> Measured:
    with Bench(place, command="serve", API_WORKERS="1") as bench:
        rate = large_posts(bench, 3 * seconds)
    return 2, "one post of 10,000", rate, "recipients/s"


def over_senders(
    directory: Path, stock: Stock, counts: Sequence[int], seconds: int, mails: int
) -> Iterator[Figure]:
    """The same over senders, which are at work on what is accepted."""
    for senders in counts:
        place = directory / f"drain-{senders}"
        place.mkdir()
        filled(place / "mailer.db", mails)
        with Bench(place, command="supervise", SENDERS=f"{senders}") as bench:
            rate, _ = drained(bench, mails)
        yield Figure(3, point("drain of queued mails", SENDERS, senders), rate, "/s")
        yield from _while_sending(directory / f"run-{senders}", stock, senders, seconds)
        place = directory / f"waits-{senders}"
        place.mkdir()
        p99_ms = _p99_wait_ms(place, seconds, senders)
        what = "answer → hand-over at 200/s, p99"
        yield Figure(5, point(what, SENDERS, senders), p99_ms, "ms")


def _while_sending(place: Path, stock: Stock, senders: int, seconds: int) -> Iterator[Figure]:
    """Posts and looks while senders are at work."""
    mails = COMPARED_WITH
    stock.copied(mails, place)
    with Bench(place, NULL_BATCH="1", SENDERS=f"{senders}") as bench:
        load, rate = posted_and_sent(bench, seconds, stock.queued(mails))
        what = "single posts while they are sent"
        yield Figure(1, point(what, SENDERS, senders), load.per_s, "/s")
        yield Figure(4, point("from the post to `sent`", SENDERS, senders), rate, "/s")
        rate = large_posts(bench, 3 * seconds)
        what = "one post of 10,000 while they are sent"
        yield Figure(2, point(what, SENDERS, senders), rate, "recipients/s")
        with closing(bench.store()) as store:
            for name, look in stock.looks(store, mails).items():
                p99_ms = percentile([look() for _ in range(LOOKS)], 99)
                what = f"{name} while mail is sent, p99"
                yield Figure(8, point(what, SENDERS, senders), p99_ms, "ms")


def writer_alone(directory: Path, seconds: int) -> Iterator[Figure]:
    """What SQLite's single writer does when nothing else needs the machine."""
    database = directory / "mailer.db"
    migrate(database)
    with closing(Store(database, RULES)) as store:
        accept_us = _us_a_mail(lambda: _accept_singles(store, 64), seconds)
        filled(database, 50_000 * seconds)
        send_us = _us_a_mail(lambda: _claim_and_record(store), seconds)
    yield Figure(4, "SQLite's single writer alone: accepting, 64 a commit", accept_us, "µs")
    yield Figure(4, "… claiming and recording, 400 a commit", send_us, "µs")
    yield Figure(4, WRITERS_TIME, accept_us + send_us, "µs")
    yield Figure(4, WRITERS_END, 1e6 / (accept_us + send_us), "/s")


def _us_a_mail(step: Callable[[], int], seconds: int) -> float:
    began, mails = time.perf_counter(), 0
    while time.perf_counter() < began + seconds and (done := step()):
        mails += done
    return (time.perf_counter() - began) / mails * 1e6


def _accept_singles(store: Store, mails: int) -> int:
    now_ms = time.time_ns() // 10**6
    with store.write():
        for number in range(mails):
            content = Content("Order", html="<p>Thank you.</p>", topic_id="orders")
            message = NewMessage(content, (Recipient(f"ann{number}@example.org"),))
            batch = NewBatch(secrets.token_hex(14), (message,), ELSEWHERE, now_ms, now_ms)
            store.batches.accept(batch, max_queued=10**9)
    return mails


def _claim_and_record(store: Store) -> int:
    now_ms = time.time_ns() // 10**6
    wanted = ask(sender=0, transport="null", batch_size=50, calls=8)
    with store.write():
        leases = store.queue.claim(wanted, now_ms=now_ms, now_us=0).leases
    taken = Outcome(OutcomeKind.ACCEPTED, "taken")
    attempts = [Attempted(mail.id, taken, now_ms, now_ms) for one in leases for mail in one.mails]
    with store.write():
        store.outcomes.record(attempts, now_ms=now_ms, jitter=lambda: 0.0)
    return len(attempts)
