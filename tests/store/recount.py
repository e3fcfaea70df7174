"""What a recount of the rows gives, held against the counters that the store keeps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path

from mailer.store.connection import sqlite3
from mailer.vocabulary import HANDED_OVER, UNFINISHED, State

Removed = Iterable[tuple[int, State]]
"""Topic and last state of each mail that was pruned: counted still, but no longer there."""


def differences(path: Path, removed: Removed = ()) -> list[str]:
    """Everything in which the counters and the rows of mails do not agree; empty when they do."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        return [
            *_topics(database, removed),
            *_depths(database),
            *_rows(database),
            *([] if removed else [*_results(database), *_queues(database)]),
        ]


def _topics(database: sqlite3.Connection, removed: Removed) -> Iterable[str]:
    found: Counter[tuple[int, str]] = Counter(removed)
    found.update(database.execute("SELECT topic, state FROM mails"))
    columns = ", ".join(State)
    for topic, total, *counts in database.execute(f"SELECT id, total, {columns} FROM topics"):
        kept = dict(zip(State, counts, strict=True))
        recounted = {state: found[topic, state] for state in State}
        if kept != recounted:
            yield f"topic {topic} has {_changed(kept, recounted)}"
        if total != sum(counts):
            yield f"topic {topic} has a total of {total}, the sum of its states is {sum(counts)}"


def _depths(database: sqlite3.Connection) -> Iterable[str]:
    kept = {
        (transport, lane): mails
        for transport, lane, mails in database.execute(
            "SELECT transport, lane, mails FROM queue_depths"
        )
        if mails
    }
    recounted = Counter(
        (transport, lane)
        for transport, lane, state in database.execute("SELECT transport, lane, state FROM mails")
        if state in UNFINISHED
    )
    if kept != recounted:
        yield f"queue_depths has {kept}, the mails are {dict(recounted)}"


def _queues(database: sqlite3.Connection) -> Iterable[str]:
    """What never leaves its state has come into it as often as it is there."""
    ends = (State.BOUNCED, State.COMPLAINED, State.CANCELLED, State.SUPPRESSED)
    there = Counter(database.execute("SELECT transport, lane, state FROM mails").fetchall())
    columns = ", ".join(("accepted", *ends))
    accepted = 0
    for transport, lane, of_queue, *came in database.execute(
        f"SELECT transport, lane, {columns} FROM queue_depths"
    ):
        queue = (transport, lane)
        accepted += of_queue
        recounted = [there[(*queue, state)] for state in ends]
        if came != recounted:
            yield f"queue {queue} has {came} of {ends}, the mails are {recounted}"
    if accepted != there.total():
        yield f"{accepted} mails were accepted, there are {there.total()}"


def _rows(database: sqlite3.Connection) -> Iterable[str]:
    """What must hold between the columns of one mail."""
    for mail, state, waits_for, sender, settle_at_ms in database.execute(
        "SELECT id, state, waits_for, sender, settle_at_ms FROM mails"
    ):
        if (state == State.PENDING) != (waits_for is not None):
            yield f"mail {mail} is {state} and waits for {waits_for}"
        if (state == State.SENDING) != (sender is not None):
            yield f"mail {mail} is {state} and leased by {sender}"
        if (state == State.UNCERTAIN) != (settle_at_ms is not None):
            yield f"mail {mail} is {state} and settled at {settle_at_ms}"


def _results(database: sqlite3.Connection) -> Iterable[str]:
    events = Counter(
        database.execute("SELECT topic, type FROM events WHERE mail IS NOT NULL").fetchall()
    )
    opened = Counter(
        topic
        for (topic,) in database.execute("SELECT topic FROM mails WHERE opened_at_ms IS NOT NULL")
    )
    for (
        topic,
        deliveries,
        bounces,
        complaints,
        clicks,
        unsubscribes,
        opens,
        opens_total,
    ) in database.execute(
        "SELECT id, deliveries, bounces, complaints, clicks, unsubscribes, opens, opens_total"
        " FROM topics"
    ):
        kept = (deliveries, bounces, complaints, clicks, unsubscribes, opens_total)
        words = ("delivery", "bounce", "complaint", "click", "unsubscribe", "open")
        recounted = tuple(events[topic, word] for word in words)
        if kept != recounted:
            yield f"topic {topic} has results {kept}, the events are {recounted} of {words}"
        if opens != opened[topic]:
            yield f"topic {topic} has {opens} opens, {opened[topic]} of its mails were opened"
    states = database.execute("SELECT state FROM mails").fetchall()
    handed_over = sum(state in HANDED_OVER for (state,) in states)
    (sends,) = database.execute("SELECT coalesce(sum(recipients), 0) FROM sends").fetchone()
    # What was taken and then rejected was handed over too, once or, retried, again.
    rejections = sum(count for (_, word), count in events.items() if word == "reject")
    if not handed_over <= sends <= handed_over + rejections:
        yield f"sends has {sends} recipients, {handed_over} mails were handed over"


def _changed(
    kept: Mapping[State, int], recounted: Mapping[State, int]
) -> dict[str, tuple[int, int]]:
    return {
        str(state): (kept[state], recounted[state])
        for state in State
        if kept[state] != recounted[state]
    }
