"""What `/metrics` tells, as data: the names, labels and meanings of mailer's own measures.

The store keeps what is counted and timed under these names; the API puts it into Prometheus's
words, the README's table and the tests are made from this list. Names follow Prometheus's naming
practice (https://prometheus.io/docs/practices/naming/): base units, counters end in `_total`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Kind(StrEnum):
    """How a metric may be read."""

    COUNTER = "counter"
    """Only grows, over all processes and their restarts."""
    GAUGE = "gauge"
    """As it is when asked."""
    HISTOGRAM = "histogram"
    """Durations, counted by `BOUNDS_S`."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One name in `/metrics`; a series for each combination of its labels' values."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    meaning: str


# fmt: off
BOUNDS_S: Final = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
    1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14400.0,
)
# fmt: on
"""The upper bounds of every histogram's buckets; above the last there is one more."""

MOST_DEAD_LETTERS: Final = 10_000
"""More are not counted."""

_QUEUE: Final = ("queue", "lane")
_TRANSPORT: Final = ("transport",)


def _counter(name: str, labels: tuple[str, ...], meaning: str) -> Metric:
    return Metric(f"mailer_{name}_total", Kind.COUNTER, labels, meaning)


def _gauge(name: str, labels: tuple[str, ...], meaning: str) -> Metric:
    return Metric(f"mailer_{name}", Kind.GAUGE, labels, meaning)


def _histogram(name: str, labels: tuple[str, ...], meaning: str) -> Metric:
    return Metric(f"mailer_{name}_seconds", Kind.HISTOGRAM, labels, meaning)


ACCEPTED = _counter("accepted_mails", _QUEUE, "Mails accepted: on disk before their caller heard.")
MAILS = _counter(
    "mails", (*_QUEUE, "state"), "Mails that came into a state; pending: that wait once more."
)
ATTEMPTS = _counter("attempts", ("transport", "outcome"), "Mails handed over, by what came of it.")
GIVEN_BACK = _counter(
    "given_back_mails", _TRANSPORT, "Claimed mails that were not handed over, and wait again."
)
EVENTS = _counter("events", ("source", "type"), "Events that providers and recipients told.")
REFUSALS = _counter("refusals", ("status",), "Requests that the API answered with an error.")
STARTS = _counter("process_starts", ("process",), "Processes started.")
COMMITS = _counter("commits", (), "Transactions that wrote to the database.")

ACCEPT = _histogram("accept", (), "From the begin of a request to the commit of its mails.")
DUE_TO_HANDOVER = _histogram(
    "due_to_handover", ("transport", "lane"), "From a mail's due time to its hand-over."
)
PROVIDER_CALL = _histogram("provider_call", _TRANSPORT, "One call of a transport.")
LIMITER_WAIT = _histogram(
    "limiter_wait", (), "How long a sender with due mail waited for a slot of the rate."
)
EVENT_LAG = _histogram("event_lag", ("source",), "From what happened to its event being stored.")
LOCK_WAIT = _histogram("lock_wait", (), "Waits for the database's write lock.")

QUEUE_MAILS = _gauge("queue_mails", _QUEUE, "Mails that are not finished, scheduled ones too.")
OLDEST_DUE = _gauge(
    "oldest_due_age_seconds", _QUEUE, "How long ago the mail that waits longest was due."
)
UNCERTAIN = _gauge("uncertain_mails", (), "Mails of which nobody knows whether they were taken.")
SENDERS = _gauge("senders", (), "Sender processes with a lease that holds.")
HELD = _gauge("held", (), "1: a restored database that nothing is sent from before a release.")
CONDITION = _gauge(
    "transport_condition", ("transport", "condition"), "1 for the condition a transport is in."
)
RATE_LIMIT = _gauge(
    "rate_limit_per_second", _TRANSPORT, "Recipients a second that may be handed over now."
)
RATE_USED = _gauge(
    "rate_used_per_second", _TRANSPORT, "Recipients in slots of the last second, and granted ahead."
)
LIMIT = _gauge("limit_recipients", ("way", "limit"), "Recipients that an entry of LIMITS allows.")
LIMIT_USED = _gauge("limit_used_recipients", ("way", "limit"), "Those its window holds now.")
QUOTA = _gauge("quota_mails", _TRANSPORT, "The provider's quota of 24 hours.")
QUOTA_LEFT = _gauge("quota_left_mails", _TRANSPORT, "What that leaves.")
PLUGIN_BEHIND = _gauge("plugin_events_behind", ("plugin",), "Events it was not told of yet.")
PLUGIN_LAG = _gauge("plugin_lag_seconds", ("plugin",), "The age of the oldest of these.")
DEAD_LETTERS = _gauge(
    "dead_letters", ("plugin",), f"Events put aside for it, up to {MOST_DEAD_LETTERS:,}."
)
PLUGIN_TROUBLES = _gauge("plugin_troubles", ("plugin",), "What it says is amiss: `mailer status`.")
DATABASE_BYTES = _gauge("database_bytes", (), "Size of the database without its WAL.")
WAL_BYTES = _gauge("wal_bytes", (), "Size of the write-ahead log.")
DISK_FREE = _gauge("disk_free_bytes", (), "Room left on the database's disk.")
RESERVE = _gauge("disk_reserve", (), "1: the room to record what is handed over is there.")
LAST_BACKUP = _gauge(
    "last_backup_timestamp_seconds", (), "When the last good back-up was begun; none: never."
)
INFO = _gauge("info", ("version", "sqlite"), "Always 1: which versions run.")

METRICS: Final = tuple(thing for thing in list(globals().values()) if isinstance(thing, Metric))
"""All of them, in the order above."""
