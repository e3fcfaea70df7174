"""Counters kept in the transactions that change what they count, never recounted on request.

A `Tally` gathers what one transaction changes and writes it once, at its end: a topic's mails
in each state and results, the depth of each queue and what became of its mails, recipients handed
over in each minute.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Final

from mailer.store.connection import Database
from mailer.vocabulary import MOVES, UNFINISHED, State

TOPIC_COUNTERS: Final = (
    "total",
    *(str(state) for state in State),
    "deliveries",
    "bounces",
    "complaints",
    "opens",
    "opens_total",
    "opens_automated",
    "clicks",
    "unsubscribes",
)

_ADD_TO_TOPIC: Final = "UPDATE topics SET {} WHERE id = :topic".format(
    ", ".join(f"{name} = {name} + :{name}" for name in TOPIC_COUNTERS)
)

QUEUE_STATES: Final = tuple(str(state) for state in State if state is not State.SENDING)
"""Mails are counted as they come into these; into `sending` they come as often as out of it."""
QUEUE_COUNTERS: Final = ("mails", "accepted", *QUEUE_STATES)

_ADD_TO_QUEUE: Final = (
    f"INSERT INTO queue_depths (transport, lane, {', '.join(QUEUE_COUNTERS)})"
    f" VALUES (?, ?{', ?' * len(QUEUE_COUNTERS)}) ON CONFLICT DO UPDATE SET "
    + ", ".join(f"{name} = {name} + excluded.{name}" for name in QUEUE_COUNTERS)
)

_NO_CHANGE: Final = dict.fromkeys(TOPIC_COUNTERS, 0)


class Tally:
    """What one transaction changes in the counters."""

    def __init__(self) -> None:
        self._topics: Counter[tuple[int, str]] = Counter()
        self._queues: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        self._sends: Counter[tuple[str, int]] = Counter()
        self._last_sent: dict[int, int] = {}

    def queued(self, queue: str, lane: str, mails: int) -> None:
        """New mails; their topics are told of them as they are opened."""
        counters = self._queues[queue, lane]
        counters["mails"] += mails
        counters["accepted"] += mails

    def requeued(self, old: str, new: str, lane: str) -> None:
        """A mail went from one queue to another."""
        self._queues[old, lane]["mails"] -= 1
        self._queues[new, lane]["mails"] += 1

    def moved(
        self, topic: int, transport: str, lane: str, old: State, new: State, mails: int = 1
    ) -> None:
        """Mails went from one state to another, by a move the vocabulary allows."""
        if new not in MOVES[old]:
            raise ValueError(f"a mail can't move from {old} to {new}")
        self._topics[topic, old] -= mails
        self._topics[topic, new] += mails
        change = (new in UNFINISHED) - (old in UNFINISHED)
        if new is not State.SENDING:
            queue = self._queues[transport, lane]
            queue["mails"] += change * mails
            queue[new] += mails

    def happened(self, topic: int, counter: str) -> None:
        self._topics[topic, counter] += 1

    def handed_over(self, topic: int, transport: str, at_ms: int, mails: int = 1) -> None:
        self._sends[transport, at_ms // 60_000] += mails
        self._last_sent[topic] = max(at_ms, self._last_sent.get(topic, 0))

    def write(self, db: Database) -> None:
        """Add it all to the tables, within the running transaction."""
        by_topic: dict[int, dict[str, int]] = {}
        for (topic, name), change in self._topics.items():
            by_topic.setdefault(topic, dict(_NO_CHANGE))[name] = change
        for topic, changes in by_topic.items():
            db.run(_ADD_TO_TOPIC, {**changes, "topic": topic})
        for topic, at_ms in self._last_sent.items():
            db.run(
                "UPDATE topics SET last_sent_at_ms = max(coalesce(last_sent_at_ms, 0), ?)"
                " WHERE id = ?",
                (at_ms, topic),
            )
        for queue, added in self._queues.items():
            db.run(_ADD_TO_QUEUE, (*queue, *(added[name] for name in QUEUE_COUNTERS)))
        for (transport, minute), recipients in self._sends.items():
            db.run(
                "INSERT INTO sends (transport, minute, recipients) VALUES (?, ?, ?)"
                " ON CONFLICT DO UPDATE SET recipients = recipients + excluded.recipients",
                (transport, minute, recipients),
            )
