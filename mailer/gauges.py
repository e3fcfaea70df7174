"""Everything `/metrics` tells, read from the store as it is at one instant.

What it costs does not grow with the mail that is kept: counters that are kept as such, the heads
of indexes, what is in flight. Which transports and plugins there are is on record.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pluggy

import mailer
from mailer import metrics, plugins
from mailer.allowance import rate_per_second
from mailer.clock import Clock
from mailer.limit_use import limit_uses
from mailer.metrics import Metric
from mailer.pacing import WINDOW_US
from mailer.settings import Settings
from mailer.store import Store
from mailer.store.counters import QUEUE_STATES
from mailer.store.library import sqlite_version
from mailer.store.measures import Durations
from mailer.vocabulary import Condition


@dataclass(frozen=True, slots=True)
class Sample:
    """The value of one series."""

    metric: Metric
    labels: tuple[str, ...]
    value: float | Durations


def samples(
    store: Store, settings: Settings, manager: pluggy.PluginManager, clock: Clock
) -> list[Sample]:
    """All series there are."""
    now_ms, now_us = clock.wall_ms(), clock.mono_us()
    with store.snapshot():
        found = [
            *_measured(store),
            *_queues(store, now_ms),
            *_sending(store, now_us),
            *_transports(store, settings, now_ms, now_us),
            *_plugins(store, now_ms),
            *_file(store),
        ]
    # Afterwards: a plugin that takes its time must not keep the log from being cut back.
    for plugin, sentences in plugins.troubles(manager, store.shelf):
        found.append(Sample(metrics.PLUGIN_TROUBLES, (plugin,), len(sentences)))
    return found


def _measured(store: Store) -> Iterator[Sample]:
    known = {metric.name: metric for metric in metrics.METRICS}
    for name, labels, value in store.status.measured():
        if name in known:  # else a newer release has written it
            yield Sample(known[name], labels, value)


def _queues(store: Store, now_ms: int) -> Iterator[Sample]:
    for depth in store.status.depths():
        queue = (depth.queue, depth.lane)
        yield Sample(metrics.QUEUE_MAILS, queue, depth.mails)
        yield Sample(metrics.ACCEPTED, queue, depth.accepted)
        for state in QUEUE_STATES:
            yield Sample(metrics.MAILS, (*queue, state), depth.came_into[state])
        due_at_ms = store.status.first_due_at_ms(*queue)
        late_ms = 0 if due_at_ms is None else max(0, now_ms - due_at_ms)
        yield Sample(metrics.OLDEST_DUE, queue, late_ms / 1000)


def _sending(store: Store, now_us: int) -> Iterator[Sample]:
    leases = [sender.lease_until_us > now_us for sender in store.senders.all()]
    yield Sample(metrics.SENDERS, (), sum(leases))
    yield Sample(metrics.HELD, (), store.hold.is_on())
    yield Sample(metrics.UNCERTAIN, (), store.status.uncertain())


def _transports(store: Store, settings: Settings, now_ms: int, now_us: int) -> Iterator[Sample]:
    for state in store.transports.all():
        name = (state.transport,)
        condition = state.condition(now_us)
        for possible in Condition:
            yield Sample(metrics.CONDITION, (*name, possible), possible is condition)
        rate = rate_per_second(settings, state.transport, state, now_us)
        if rate is not None:
            yield Sample(metrics.RATE_LIMIT, name, rate)
            used = store.slots.used_since(state.transport, now_us - WINDOW_US)
            yield Sample(metrics.RATE_USED, name, used)
        left, quota = store.transports.left_today(state.transport, now_ms)
        if left is not None and quota is not None:
            yield Sample(metrics.QUOTA, name, quota)
            yield Sample(metrics.QUOTA_LEFT, name, left)
    for use in limit_uses(store, settings, now_us):
        yield Sample(metrics.LIMIT, (use.way, use.limit), use.most)
        yield Sample(metrics.LIMIT_USED, (use.way, use.limit), use.used)


def _plugins(store: Store, now_ms: int) -> Iterator[Sample]:
    end = store.log.end()
    for cursor in store.cursors.all():
        if not cursor.live:
            continue
        name = (cursor.plugin,)
        next_ms = store.log.at_ms_behind(cursor.event)
        lag_ms = 0 if next_ms is None else max(0, now_ms - next_ms)
        yield Sample(metrics.PLUGIN_BEHIND, name, end - cursor.event)
        yield Sample(metrics.PLUGIN_LAG, name, lag_ms / 1000)
        dead = store.cursors.dead_count(cursor.plugin, at_most=metrics.MOST_DEAD_LETTERS)
        yield Sample(metrics.DEAD_LETTERS, name, dead)


def _file(store: Store) -> Iterator[Sample]:
    file = store.housekeeping
    commits, last_backup_at_ms = store.status.commits_and_backup()
    yield Sample(metrics.COMMITS, (), commits)
    if last_backup_at_ms is not None:
        yield Sample(metrics.LAST_BACKUP, (), last_backup_at_ms / 1000)
    yield Sample(metrics.DATABASE_BYTES, (), store.path.stat().st_size)
    yield Sample(metrics.WAL_BYTES, (), file.wal_bytes)
    yield Sample(metrics.DISK_FREE, (), file.free_bytes())
    yield Sample(metrics.RESERVE, (), file.has_reserve())
    version = ".".join(map(str, sqlite_version()))
    yield Sample(metrics.INFO, (mailer.__version__, version), 1)
