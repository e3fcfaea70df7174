"""The supervisor's duties: small jobs, each a function run once with the time as argument.

`schedule` says when. A duty that raises is reported and the others go on.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence, Set
from concurrent.futures import Future
from pathlib import Path
from typing import Final, ParamSpec, TypeVar

import schedule

from mailer.clock import Clock
from mailer.detours import Detours
from mailer.errors import StoreDamaged, StoreUnavailable, TransportHalted
from mailer.hookspecs import Quota, Transport
from mailer.pacing import WINDOW_US, Limit
from mailer.settings import Settings
from mailer.store import Store
from mailer.store.idempotency import KEPT_MS
from mailer.store.verify import verify

log = logging.getLogger("mailer.duties")

T = TypeVar("T")
P = ParamSpec("P")
Duty = Callable[[], None]
Reached = dict[str, int]
"""Topics whose mail was too much for one turn, and the id that turn came to."""

STEP: Final = 500
"""Rows a duty changes in one transaction, so that nobody waits long for the next."""
STEPS: Final = 40
"""Transactions a duty makes before it lets the others have their turn."""
CUT_SHORT_MS: Final = 60_000
"""A cancel that has made no step for so long has lost the request that made it."""
SET_MS: Final = 3600 * 1000
DAY_MS: Final = 24 * 3600 * 1000
SENDS_KEPT_MINUTES: Final = 366 * 24 * 60
SLOTS_KEPT_US: Final = 10 * WINDOW_US


def settle(store: Store, now_ms: int) -> None:
    """Decide the uncertain mails whose grace has ended."""
    if not store.outcomes.to_settle(now_ms=now_ms):
        return
    for _ in range(STEPS):
        with store.write():
            if store.outcomes.settle(now_ms=now_ms, step=STEP) < STEP:
                return


def expire(store: Store, now_ms: int) -> None:
    """Give up mail that is past its `expires_at`."""
    for _ in range(STEPS):
        with store.write():
            if not store.expiry.expire(now_ms=now_ms, step=STEP):
                return


def prune(store: Store, now_ms: int, retention_ms: int, lag_ms: int) -> None:
    """Remove what is older than RETENTION_DAYS, a little at a time.

    What an event plugin was not told of is kept for PLUGIN_LAG_DAYS more.
    """
    held = store.cursors.held(lag_ms)
    old_ms = now_ms - retention_ms
    forgotten: tuple[Callable[[], int], ...] = (
        lambda: store.batches.prune(retention_ms=retention_ms, now_ms=now_ms, step=STEP, held=held),
        lambda: store.idempotency.forget(now_ms - KEPT_MS, STEP),
        lambda: store.housekeeping.forget_events(old_ms, STEP, up_to=held.behind if held else None),
        lambda: store.housekeeping.forget_events(old_ms - lag_ms, STEP),
        lambda: store.cursors.forget_dead_letters(old_ms, STEP),
    )
    steps = iter(range(STEPS))
    for forget in forgotten:
        for _ in steps:
            with store.write():
                if not forget():
                    break
    with store.write():
        store.transports.forget_sends(now_ms // 60_000 - SENDS_KEPT_MINUTES)


def warn_of_lag(store: Store, now_ms: int, retention_ms: int, lag_ms: int) -> None:
    """Name the event plugins for which old events are kept, or were not told in time."""
    for cursor in store.cursors.all():
        oldest = store.log.page(cursor.event, limit=1).events if cursor.live else []
        if not oldest or oldest[0].at_ms > now_ms - retention_ms:
            continue
        days = (now_ms - oldest[0].at_ms) // DAY_MS
        forgotten = (retention_ms + lag_ms) // DAY_MS
        log.warning(
            "event plugin %s was not told of what happened %d days ago; what is older than %d days"
            " (RETENTION_DAYS + PLUGIN_LAG_DAYS) is forgotten untold",
            cursor.plugin,
            days,
            forgotten,
        )


def finish_cancels(store: Store, now_ms: int, reached: Reached) -> None:
    """Go on with cancels whose request ended halfway."""

    def step(topic_id: str, after: int) -> int:
        return store.topics.cancel(topic_id, after=after, now_ms=now_ms).after

    cut_short = store.topics.being_cancelled(now_ms - CUT_SHORT_MS)
    _go_on(store, {*cut_short, *reached}, reached, step)


def finish_resumes(store: Store, now_ms: int, reached: Reached) -> None:
    """Bring back mail that was moved aside for a topic which is not held any more."""

    def step(topic_id: str, after: int) -> int:
        return store.topics.unpark(topic_id, after=after, now_ms=now_ms)

    _go_on(store, set(store.topics.to_unpark()), reached, step)


def _go_on(
    store: Store, topic_ids: Set[str], reached: Reached, step: Callable[[str, int], int]
) -> None:
    """Make steps over the mail of the topics, from where the last turn came to."""
    steps = iter(range(STEPS))
    for topic_id in topic_ids:
        after = reached.pop(topic_id, 0)
        for _ in steps:
            with store.write():
                after = step(topic_id, after)
            if not after:
                break
        else:
            reached[topic_id] = after


def slots_kept_us(max_send_per_second: float | None) -> int:
    """How long a slot may count: below one mail a second the window is longer than a second."""
    if max_send_per_second is None:
        return SLOTS_KEPT_US
    return max(SLOTS_KEPT_US, 2 * Limit.per_second(max_send_per_second).window_us)


def forget_slots(store: Store, now_us: int, kept_us: int) -> None:
    """Slots too old to count in any window of the rate."""
    if store.slots.to_forget(now_us - kept_us):
        with store.write():
            store.slots.forget(now_us - kept_us)


def forget_windows(store: Store, now_us: int) -> None:
    """What no window of a limit counts any more."""
    if store.windows.kept:
        with store.write():
            store.windows.forget(store.windows.now_us(now_us))


def in_background(work: Callable[[], T]) -> Future[T]:
    """Do it in a thread that a process which ends does not wait for."""
    result: Future[T] = Future()

    def run() -> None:
        try:
            result.set_result(work())
        except BaseException as error:
            result.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return result


class Quotas:
    """Asks providers for their limits, in a thread, since they may be slow to answer."""

    def __init__(self, transports: Mapping[str, Transport]) -> None:
        self._transports = transports
        self._asked: dict[str, Future[Quota]] = {}

    def ask(self) -> None:
        """Begin to ask every transport that is not being asked."""
        for name, transport in self._transports.items():
            if name not in self._asked:
                self._asked[name] = in_background(transport.quota)

    def keep(self, store: Store, now_ms: int) -> None:
        """Store the answers that have come."""
        for name, answer in list(self._asked.items()):
            if not answer.done():
                continue
            del self._asked[name]
            problem = answer.exception()
            if problem is not None:
                log.warning("%s did not tell its limits: %s", name, problem)
                if isinstance(problem, TransportHalted):
                    with store.write():
                        store.transports.note_unreachable(name, f"{problem}", halted_at_ms=now_ms)
                continue
            with store.write():
                store.transports.keep_quota(name, answer.result(), now_ms)
                store.transports.end_halt(name)


class FileCheck:
    """Reads the whole database once a day, in a thread, for files too large to check at start."""

    def __init__(self, database: Path) -> None:
        self._database = database
        self._running: Future[None] | None = None

    def begin(self) -> None:
        if self._running is None or self._running.done():
            self._running = in_background(lambda: verify(self._database, whole=True))

    def damage(self) -> StoreDamaged | None:
        """What the last check found, if it has ended."""
        if self._running is None or not self._running.done():
            return None
        problem = self._running.exception()
        return problem if isinstance(problem, StoreDamaged) else None


def plan(
    store: Store,
    settings: Settings,
    clock: Clock,
    quotas: Quotas,
    check: FileCheck,
    ask_plugins: Duty = lambda: None,
    alive: Callable[[], None] = lambda: None,
) -> Schedule:
    """All duties and how many seconds lie between their turns; `alive` is called after each."""
    retention_ms = settings.retention_days * DAY_MS
    lag_ms = settings.plugin_lag_days * DAY_MS
    kept_us = slots_kept_us(settings.max_send_per_second)
    steady = SteadyWallClock(clock)
    cancels: Reached = {}
    resumes: Reached = {}
    detours = Detours(settings.ways, settings.fail_over_after_s * 1000)
    duties: list[tuple[int, Duty]] = [
        (1, lambda: settle(store, clock.wall_ms())),
        (1, lambda: detours.look(store, clock.wall_ms())),
        (1, store.housekeeping.checkpoint),
        (1, lambda: quotas.keep(store, clock.wall_ms())),
        (1, ask_plugins),
        (2, store.housekeeping.keep_reserve),
        (2, lambda: forget_slots(store, clock.mono_us(), kept_us)),
        (600, lambda: forget_windows(store, clock.mono_us())),
        (5, lambda: expire(store, clock.wall_ms())),
        (10, lambda: finish_cancels(store, clock.wall_ms(), cancels)),
        (10, lambda: finish_resumes(store, clock.wall_ms(), resumes)),
        (10, lambda: steady.unless_set(prune, store, clock.wall_ms(), retention_ms, lag_ms)),
        (3600, lambda: warn_of_lag(store, clock.wall_ms(), retention_ms, lag_ms)),
        (300, quotas.ask),
        (24 * 3600, store.housekeeping.optimize),
        (24 * 3600, check.begin),
    ]
    return Schedule(duties, alive)


class SteadyWallClock:
    """Holds back what a wrong wall clock would make irreversible.

    A clock that was set by more than an hour may be wrong, and what is removed as old by it is
    gone. It is believed when it has been left alone for a day.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._believed_ms = self._difference_ms()
        self._set_at_us: int | None = None

    def _difference_ms(self) -> int:
        return self._clock.wall_ms() - self._clock.mono_us() // 1000

    def unless_set(self, duty: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        """Do it unless the clock was set."""
        set_by_ms = self._difference_ms() - self._believed_ms
        now_us = self._clock.mono_us()
        if abs(set_by_ms) < SET_MS:
            self._set_at_us = None
            duty(*args, **kwargs)
        elif self._set_at_us is None:
            self._set_at_us = now_us
            log.warning("the clock was set by %d s: nothing is pruned for a day", set_by_ms // 1000)
        elif now_us - self._set_at_us > DAY_MS * 1000:
            self._believed_ms += set_by_ms


class Schedule:
    """Runs each duty when its turn has come.

    `schedule` counts by the local clock. When that is set back, each autumn or by hand, no duty
    would run until it has caught up: they are planned anew then.
    """

    def __init__(
        self, duties: Sequence[tuple[int, Duty]], alive: Callable[[], None] = lambda: None
    ) -> None:
        self._duties = duties
        self._alive = alive
        self._shortest_s = min(every_s for every_s, _ in duties)
        self._scheduler = schedule.Scheduler()
        self._plan()

    def run_pending(self) -> None:
        """Raises StoreDamaged; what else a duty raises is reported."""
        if (self._scheduler.idle_seconds or 0) > self._shortest_s:
            self._plan()
        self._scheduler.run_pending()

    def _plan(self) -> None:
        self._scheduler.clear()
        for every_s, duty in self._duties:
            self._scheduler.every(every_s).seconds.do(self._run, duty)

    def _run(self, duty: Duty) -> None:
        reported(duty)
        self._alive()


def reported(duty: Duty) -> None:
    """Run a duty; what it raises is logged (and so sent to Sentry) and ends there."""
    try:
        duty()
    except StoreDamaged:
        raise
    except StoreUnavailable as error:
        log.warning("%s", error)  # a full disk, say: no fault of ours
    except Exception:
        log.exception("a duty failed; it is run again at its next time")
