"""Topics: their counters, and pausing, resuming, cancelling and retrying all of their mail."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from mailer.errors import NotFound
from mailer.store.connection import Database
from mailer.store.counters import TOPIC_COUNTERS, Tally
from mailer.store.log import append_own
from mailer.store.mails import cancel
from mailer.vocabulary import HANDED_OVER, EventType, State, UncertainPolicy

STEP: Final = 2_000
"""Mails changed in one transaction, so that no sender waits long for the next."""

_TOPIC: Final = (
    "SELECT id, topic_id, paused OR cancelling, uncertain_policy, first_due_at_ms, last_sent_at_ms,"
    f" {', '.join(TOPIC_COUNTERS)} FROM topics "
)

_NEXT_IN_STATE: Final = """
SELECT id, state FROM mails WHERE topic = ? AND id > ? ORDER BY id LIMIT ?
"""


_UNPARK: Final = """
UPDATE mails SET waits_for =
    CASE WHEN due_at_ms > ? THEN 'due_time' WHEN crashes > 0 THEN 'alone' ELSE 'turn' END
WHERE id = ? AND waits_for = 'topic'
"""


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic and its counters, as kept by the transactions that changed them."""

    id: int
    topic_id: str
    paused: bool
    uncertain_policy: UncertainPolicy | None
    first_due_at_ms: int | None
    last_sent_at_ms: int | None
    counters: dict[str, int]


@dataclass(frozen=True, slots=True)
class CancelStep:
    """One part of a cancel; the last part's `in_flight` and `already_sent` hold for the whole."""

    cancelled: int
    in_flight: int
    already_sent: int
    after: int
    """Where the next part begins; 0 when this was the last."""


class Topics:
    """Looking at topics and steering them."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def get(self, topic_id: str) -> Topic | None:
        row = self._db.one(_TOPIC + "WHERE topic_id = ?", (topic_id,))
        return _topic(row) if row else None

    def list(self, *, after: str, limit: int) -> list[Topic]:
        """Topics by name, behind `after`; mails without a topic belong to none of them."""
        rows = self._db.all(_TOPIC + "WHERE topic_id > ? ORDER BY topic_id LIMIT ?", (after, limit))
        return [_topic(row) for row in rows]

    def pause(self, topic_id: str) -> Topic:
        """Nothing more of it is claimed; the topic as it is then. Raises NotFound."""
        self._require(topic_id)
        self._db.run("UPDATE topics SET paused = 1 WHERE topic_id = ?", (topic_id,))
        return self._require(topic_id)

    def resume(self, topic_id: str) -> None:
        """Its mail may be claimed again; `unpark` brings back what was moved aside."""
        self._require(topic_id)
        self._db.run("UPDATE topics SET paused = 0 WHERE topic_id = ?", (topic_id,))

    def unpark(self, topic_id: str, *, after: int, now_ms: int) -> int:
        """Bring back the next part of a resumed topic's mail; the id to go on from, 0 at the end.

        Does nothing while the topic is paused.
        """
        topic = self._require(topic_id)
        if topic.paused:
            return 0
        part = self._db.all(_NEXT_IN_STATE, (topic.id, after, STEP))
        self._db.many(
            _UNPARK,
            [(now_ms, mail_id) for mail_id, state in part if state == State.PENDING],
        )
        if len(part) == STEP:
            return int(part[-1][0])
        self._db.run("UPDATE topics SET parked = 0 WHERE id = ?", (topic.id,))
        return 0

    def retry(self, topic_id: str, *, after: int, now_ms: int) -> tuple[int, int]:
        """Let the next part of a topic's failed mail wait again: (how many, id to go on from)."""
        topic = self._require(topic_id)
        part = self._db.all(_NEXT_IN_STATE, (topic.id, after, STEP))
        failed = [mail_id for mail_id, state in part if state == State.FAILED]
        tally = Tally()
        for mail_id in failed:
            row = self._db.one(
                "UPDATE mails SET state = 'pending', state_at_ms = :now, waits_for = 'turn',"
                " due_at_ms = :now, first_due_at_ms = :now, crashes = 0, cancel_requested = 0,"
                " detail = NULL"
                " WHERE id = :id RETURNING transport, lane",
                {"now": now_ms, "id": mail_id},
            )
            if row:
                tally.moved(topic.id, row[0], row[1], State.FAILED, State.PENDING)
        append_own(
            self._db,
            [(EventType.RESENT, now_ms, mail_id, topic.id, "api", "retried") for mail_id in failed],
        )
        tally.write(self._db)
        return len(failed), part[-1][0] if len(part) == STEP else 0

    def begin_cancel(self, topic_id: str) -> Topic:
        """From now on nothing of it is claimed. Raises NotFound."""
        topic = self._require(topic_id)
        self._db.run("UPDATE topics SET cancelling = 1 WHERE id = ?", (topic.id,))
        return topic

    def cancel(self, topic_id: str, *, after: int, now_ms: int) -> CancelStep:
        """Cancel the next part of a topic on which `begin_cancel` was called.

        Mail in flight can't be called back, but is cancelled if it comes back by itself.
        """
        topic = self._require(topic_id)
        part = self._db.all(_NEXT_IN_STATE, (topic.id, after, STEP))
        pending = [mail_id for mail_id, state in part if state == State.PENDING]
        cancel(self._db, pending, now_ms=now_ms)
        self._db.many(
            "UPDATE mails SET cancel_requested = 1 WHERE id = ?",
            [(i,) for i, state in part if state in {State.SENDING, State.UNCERTAIN}],
        )
        after = part[-1][0] if len(part) == STEP else 0
        # While it goes on, the flag is the instant of its last step.
        cancelling = now_ms if after else 0
        self._db.run("UPDATE topics SET cancelling = ? WHERE id = ?", (cancelling, topic.id))
        counters = self._require(topic_id).counters
        return CancelStep(
            cancelled=len(pending),
            in_flight=counters[State.SENDING] + counters[State.UNCERTAIN],
            already_sent=sum(counters[state] for state in HANDED_OVER),
            after=after,
        )

    def to_unpark(self) -> tuple[str, ...]:
        """Topics that are not held any more, but still have mail moved aside."""
        rows = self._db.all(
            "SELECT topic_id FROM topics WHERE parked = 1 AND paused = 0 AND cancelling = 0"
        )
        return tuple(topic_id for (topic_id,) in rows)

    def being_cancelled(self, before_ms: int) -> tuple[str, ...]:
        """Topics whose cancel has made no step since then: it was cut short."""
        rows = self._db.all(
            "SELECT topic_id FROM topics WHERE cancelling > 0 AND cancelling < ?", (before_ms,)
        )
        return tuple(topic_id for (topic_id,) in rows)

    def _require(self, topic_id: str) -> Topic:
        topic = self.get(topic_id)
        if topic is None:
            raise NotFound(f"there is no topic {topic_id}: no mail was ever sent with it")
        return topic


def _topic(row: tuple[object, ...]) -> Topic:
    id_, topic_id, paused, policy, first_due_at_ms, last_sent_at_ms, *counters = row
    return Topic(
        id=int(str(id_)),
        topic_id=str(topic_id),
        paused=bool(paused),
        uncertain_policy=UncertainPolicy(str(policy)) if policy else None,
        first_due_at_ms=first_due_at_ms if isinstance(first_due_at_ms, int) else None,
        last_sent_at_ms=last_sent_at_ms if isinstance(last_sent_at_ms, int) else None,
        counters=dict(zip(TOPIC_COUNTERS, (int(str(n)) for n in counters), strict=True)),
    )
