"""Figure 8: what a full database changes for those who look into it, and for the claim.

`Stock` fills a database once and keeps it at each size, for all that is measured over sizes.
"""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

from mailer.store import Store
from tests.bench.arithmetic import percentile
from tests.bench.curves import STORED, point
from tests.bench.installed import BATCH, RULES, TOPICS, filled
from tests.bench.report import Figure
from tests.store.world import ask

LOOKS = 500
ELSEWHERE = "elsewhere"
"""The transport of the stock's queued mail: senders of another leave it alone."""
OLD_MS = 40 * 24 * 3600 * 1000
COMPARED_WITH = 10_000


class Stock:
    """Databases of several sizes: half of the mail sent forty days ago, half queued elsewhere."""

    def __init__(self, directory: Path, largest: int) -> None:
        self._directory = directory
        self.largest = largest
        self._sent: dict[int, list[tuple[str, int]]] = {}
        self._queued: dict[int, list[tuple[str, int]]] = {}

    def at(self, mails: int) -> Path:
        """The directory in which `mailer.db` holds so many; made by adding to the next smaller."""
        place = self._directory / f"{mails}"
        if mails not in self._sent:
            place.mkdir(parents=True)
            smaller = max((size for size in self._sent if size < mails), default=0)
            if smaller:
                shutil.copy(self.at(smaller) / "mailer.db", place)
            database, half = place / "mailer.db", (mails - smaller) // 2
            self._sent[mails] = self._sent.get(smaller, []) + filled(
                database, half, sent=True, first=smaller, age_ms=OLD_MS
            )
            rest, begin = mails - smaller - half, smaller + half
            self._queued[mails] = self._queued.get(smaller, []) + filled(
                database, rest, transport=ELSEWHERE, first=begin
            )
        return place

    def copied(self, mails: int, place: Path) -> Path:
        """A directory with a copy, which may be added to."""
        place.mkdir()
        shutil.copy(self.at(mails) / "mailer.db", place)
        return place

    def sent(self, mails: int) -> Sequence[tuple[str, int]]:
        """The batches of old mail: their ids and sizes."""
        self.at(mails)
        return self._sent[mails]

    def queued(self, mails: int) -> int:
        """How many mails wait for the transport that is elsewhere."""
        self.at(mails)
        return sum(size for _, size in self._queued[mails])

    def looks(self, store: Store, mails: int) -> Mapping[str, Callable[[], float]]:
        """What people and senders do to such a database; each says how many ms it took."""
        batches = [*self._sent[mails], *self._queued[mails]]

        def some_mail() -> str:
            batch_id, size = random.choice(batches)
            return f"{batch_id}-{random.randrange(size)}"

        def some_topic() -> str:
            return f"news/{random.randrange(max(1, min(TOPICS, mails // BATCH)))}"

        def recipient() -> str:
            return f"reader{random.randrange(mails)}@example.org"

        return {
            "claim of 5": lambda: _claim_ms(store),
            "topic results": lambda: _ms(store.topics.get, some_topic()),
            "mail by id": lambda: _ms(store.mails.get, some_mail()),
            "list by recipient": lambda: _ms(
                lambda of: store.mails.list(recipient=of), recipient()
            ),
        }


def stored(stock: Stock, sizes: Sequence[int]) -> Iterator[Figure]:
    """Figure 8: four looks at a database of so many mails."""
    at_first: dict[str, float] = {}
    for mails in sizes:
        database = stock.at(mails) / "mailer.db"
        with closing(Store(database, RULES)) as store:
            for name, look in stock.looks(store, mails).items():
                p99_ms = percentile([look() for _ in range(LOOKS)], 99)
                yield Figure(8, point(f"{name}, p99", STORED, mails), p99_ms, "ms")
                if mails == COMPARED_WITH:
                    at_first[name] = p99_ms
                elif mails > COMPARED_WITH:
                    what = f"{name} with {mails:,} mails, p99"
                    limit = f"{at_first[name]:.2g} ms at {COMPARED_WITH:,} mails"
                    yield Figure(8, what, p99_ms, "ms", "<= 5", limit)
                    ratio = p99_ms / at_first[name]
                    yield Figure(8, f"… ÷ that at {COMPARED_WITH:,}", ratio, "", "<= 2", limit)


def _claim_ms(store: Store) -> float:
    """Claim five, on disk; they are given back afterwards."""
    five = ask(sender=0, transport=ELSEWHERE, batch_size=5, calls=1)
    now_ms = time.time_ns() // 10**6
    began = time.perf_counter()
    with store.write():
        leases = store.queue.claim(five, now_ms=now_ms, now_us=0).leases
    took_ms = (time.perf_counter() - began) * 1000
    mails = [mail.id for lease in leases for mail in lease.mails]
    assert len(mails) == 5
    with store.write():
        store.outcomes.give_back(mails, now_ms=now_ms)
    return took_ms


def _ms(look: Callable[[str], object], at: str) -> float:
    began = time.perf_counter()
    found = look(at)
    took_ms = (time.perf_counter() - began) * 1000
    assert found, f"nothing at {at}"
    return took_ms
