"""Recording what a transport took: nearly all that senders record, so written as sets.

One statement each for all the mails, their attempts and their events costs half of what rows one
by one do, and lets the threads that hand over go on while SQLite works.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec import Struct

from mailer.hookspecs import Outcome
from mailer.store.connection import Database
from mailer.store.counters import Tally
from mailer.vocabulary import State

_SENT: Final = """
UPDATE mails SET state = 'sent', state_at_ms = ?1, provider_id = coalesce(taken.id, provider_id),
    detail = NULL, sender = NULL, slot_us = NULL
FROM (SELECT value ->> 0 AS mail, value ->> 1 AS id FROM json_each(?2)) AS taken
WHERE mails.id = taken.mail AND mails.state = 'sending'
RETURNING mails.id, topic, transport, lane, via
"""

_ATTEMPT_INTO: Final = """
INSERT INTO attempts
    (mail, attempt, started_at_ms, ended_at_ms, transport, outcome, detail, provider_id)
"""

# The attempt is there already when it was given up as unknown and has come to an end after all.
_OR_AGAIN: Final = """
ON CONFLICT DO UPDATE SET ended_at_ms = excluded.ended_at_ms, outcome = excluded.outcome,
    detail = excluded.detail, provider_id = excluded.provider_id
"""

NEW_ATTEMPT: Final = f"{_ATTEMPT_INTO} VALUES (?, ?, ?, ?, ?, ?, ?, ?) {_OR_AGAIN}"

_ATTEMPTS: Final = f"""
{_ATTEMPT_INTO}
SELECT m.id, m.attempts, value ->> 2, value ->> 3, m.via, 'accepted', value ->> 4,
    value ->> 1
FROM json_each(?) CROSS JOIN mails m ON m.id = value ->> 0
WHERE true {_OR_AGAIN}
"""

_EVENTS: Final = """
INSERT INTO events (type, at_ms, mail, topic, source, detail)
SELECT 'sent', ?, m.id, m.topic, m.via, ''
FROM json_each(?) CROSS JOIN mails m ON m.id = value ->> 0
"""


class Attempted(Struct, frozen=True):
    """One mail's attempt as the sender saw it."""

    mail_id: int
    outcome: Outcome
    started_at_ms: int
    ended_at_ms: int


def record_sent(db: Database, taken: Sequence[Attempted], now_ms: int) -> set[int]:
    """Write down accepted attempts, in the running transaction; the mails that are sent now.

    The others were not being sent any more: their sender had been given up, or an event settled
    them first.
    """
    if not taken:
        return set()
    moved = db.all(_SENT, (now_ms, _json(taken)))
    sent = {row[0] for row in moved}
    started_at_ms = {a.mail_id: a.started_at_ms for a in taken if a.mail_id in sent}
    if len(sent) < len(taken):
        taken = [a for a in taken if a.mail_id in sent]
    rows = _json(taken)
    db.run(_ATTEMPTS, (rows,))
    db.run(_EVENTS, (now_ms, rows))
    tally = Tally()
    alike = Counter((*row[1:], started_at_ms[row[0]]) for row in moved)
    for (topic, queue, lane, via, at_ms), mails in alike.items():
        tally.moved(topic, queue, lane, State.SENDING, State.SENT, mails)
        tally.handed_over(topic, via, at_ms, mails)
    tally.write(db)
    return sent


def _json(taken: Sequence[Attempted]) -> str:
    return msgspec.json.encode(
        [
            (a.mail_id, a.outcome.provider_id, a.started_at_ms, a.ended_at_ms, a.outcome.detail)
            for a in taken
        ]
    ).decode()
