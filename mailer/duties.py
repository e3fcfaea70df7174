"""The supervisor's duties: small jobs, each a function run once with the time as argument.

`schedule` says when. A duty that raises is reported and the others go on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final

import schedule

from mailer.clock import Clock
from mailer.errors import StoreDamaged, StoreUnavailable
from mailer.hookspecs import Quota, Transport
from mailer.pacing import WINDOW_US
from mailer.settings import Settings
from mailer.store import Store
from mailer.store.idempotency import KEPT_MS
from mailer.store.verify import verify

log = logging.getLogger("mailer.duties")

STEP: Final = 500
"""Rows a duty changes in one transaction, so that nobody waits long for the next."""
STEPS: Final = 40
"""Transactions a duty makes before it lets the others have their turn."""
CUT_SHORT_MS: Final = 60_000
"""A cancel that has made no step for so long has lost the request that made it."""
DAY_MS: Final = 24 * 3600 * 1000
SENDS_KEPT_MINUTES: Final = 366 * 24 * 60


def settle(store: Store, now_ms: int) -> None:
    """Decide the uncertain mails whose grace has ended."""
    for _ in range(STEPS):
        with store.write():
            if store.outcomes.settle(now_ms=now_ms, step=STEP) < STEP:
                return


def expire(store: Store, now_ms: int) -> None:
    """Give up mail that is past its `expires_at`."""
    for _ in range(STEPS):
        with store.write():
            if not store.queue.expire(now_ms=now_ms, step=STEP):
                return


def prune(store: Store, now_ms: int, retention_ms: int) -> None:
    """Remove what is older than RETENTION_DAYS, a little at a time."""
    for _ in range(STEPS):
        with store.write():
            if not store.batches.prune(retention_ms=retention_ms, now_ms=now_ms, step=STEP):
                break
    with store.write():
        store.idempotency.forget(now_ms - KEPT_MS, STEP)
        store.housekeeping.forget_events(now_ms - retention_ms, STEP)
        store.transports.forget_sends(now_ms // 60_000 - SENDS_KEPT_MINUTES)


def finish_cancels(store: Store, now_ms: int) -> None:
    """Go on with cancels whose request ended halfway."""
    for topic_id in store.topics.being_cancelled(now_ms - CUT_SHORT_MS):
        after = 0
        for _ in range(STEPS):
            with store.write():
                after = store.topics.cancel(topic_id, after=after, now_ms=now_ms).after
            if not after:
                break


def finish_resumes(store: Store, now_ms: int) -> None:
    """Bring back mail that was moved aside for a topic which is not held any more."""
    for topic_id in store.topics.to_unpark():
        after = 0
        for _ in range(STEPS):
            with store.write():
                after = store.topics.unpark(topic_id, after=after, now_ms=now_ms)
            if not after:
                break


def forget_slots(store: Store, now_us: int) -> None:
    """Slots too old to count in any window of the rate."""
    with store.write():
        store.slots.forget(now_us - SLOTS_KEPT_US)


SLOTS_KEPT_US: Final = 100 * WINDOW_US


class Quotas:
    """Asks providers for their limits, in a thread, since they may be slow to answer."""

    def __init__(self, transports: Mapping[str, Transport]) -> None:
        self._transports = transports
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="quota")
        self._asked: dict[str, Future[Quota]] = {}

    def ask(self) -> None:
        """Begin to ask every transport that is not being asked."""
        for name, transport in self._transports.items():
            if name not in self._asked:
                self._asked[name] = self._pool.submit(transport.quota)

    def keep(self, store: Store, now_ms: int) -> None:
        """Store the answers that have come."""
        for name, answer in list(self._asked.items()):
            if not answer.done():
                continue
            del self._asked[name]
            problem = answer.exception()
            if problem is not None:
                log.warning("%s did not tell its limits: %s", name, problem)
                continue
            with store.write():
                store.transports.keep_quota(name, answer.result(), now_ms)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


class FileCheck:
    """Reads the whole database once a day, in a thread, for files too large to check at start."""

    def __init__(self, database: Path) -> None:
        self._database = database
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="check")
        self._running: Future[None] | None = None

    def begin(self) -> None:
        if self._running is None or self._running.done():
            self._running = self._pool.submit(verify, self._database, whole=True)

    def damage(self) -> StoreDamaged | None:
        """What the last check found, if it has ended."""
        if self._running is None or not self._running.done():
            return None
        problem = self._running.exception()
        return problem if isinstance(problem, StoreDamaged) else None

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


def plan(
    store: Store, settings: Settings, clock: Clock, quotas: Quotas, check: FileCheck
) -> schedule.Scheduler:
    """All duties, each reported when it raises and run again at its next time."""
    retention_ms = settings.retention_days * DAY_MS
    duties: list[tuple[int, Callable[[], None]]] = [
        (1, lambda: settle(store, clock.wall_ms())),
        (1, store.housekeeping.checkpoint),
        (1, lambda: quotas.keep(store, clock.wall_ms())),
        (2, store.housekeeping.keep_reserve),
        (2, lambda: forget_slots(store, clock.mono_us())),
        (5, lambda: expire(store, clock.wall_ms())),
        (10, lambda: finish_cancels(store, clock.wall_ms())),
        (10, lambda: finish_resumes(store, clock.wall_ms())),
        (10, lambda: prune(store, clock.wall_ms(), retention_ms)),
        (300, quotas.ask),
        (24 * 3600, store.housekeeping.optimize),
        (24 * 3600, check.begin),
    ]
    scheduler = schedule.Scheduler()
    for every_s, duty in duties:
        scheduler.every(every_s).seconds.do(reported, duty)
    return scheduler


def reported(duty: Callable[[], None]) -> None:
    """Run a duty; what it raises is logged (and so sent to Sentry) and ends there."""
    try:
        duty()
    except StoreDamaged:
        raise
    except StoreUnavailable as error:
        log.warning("%s", error)  # a full disk, say: no fault of ours
    except Exception:
        log.exception("a duty failed; it is run again at its next time")
