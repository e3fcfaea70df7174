"""Claiming: due mail and the slots to send it in, leased to one sender in one transaction.

Interactive mail first, then by due time, then by id. What may not be sent is moved aside on the
way: mail of paused topics is parked, suppressed and expired mail is finished. Claimed mail is
`sending` on disk before any transport is called.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import msgspec

from mailer.errors import StoreDamaged
from mailer.limits import Limits
from mailer.mail import ClaimedMail
from mailer.pacing import Limit, Slot
from mailer.store.batches import mail_checksum, recipient_of
from mailer.store.connection import Database
from mailer.store.counters import Tally
from mailer.store.log import append_own
from mailer.store.slots import Slots
from mailer.store.suppressions import SUPPRESSED
from mailer.vocabulary import EventType, Lane, State, WaitsFor

_CANDIDATES: Final = f"""
SELECT m.id, m.topic, m.message, m.recipient, m.name, m.data, m.checksum, m.due_at_ms, m.attempts,
    m.lane, b.batch_id || '-' || (m.id - b.id), b.accepted_at_ms, g.expires_at_ms,
    t.paused OR t.cancelling, m.transport, {SUPPRESSED}, b.http_request_id
FROM mails m
JOIN batches b ON b.id = m.batch
JOIN messages g ON g.id = m.message
JOIN topics t ON t.id = m.topic
WHERE m.transport = ? AND m.waits_for = ? AND m.lane = ? AND m.due_at_ms <= ?
ORDER BY m.due_at_ms, m.id
LIMIT ?
"""

_LEASE: Final = """
UPDATE mails SET state = 'sending', state_at_ms = ?, waits_for = NULL, attempts = attempts + 1,
    sender = ?, via = ?, slot_us = leased.slot_us
FROM (SELECT value ->> 0 AS mail, value ->> 1 AS slot_us FROM json_each(?)) AS leased
WHERE mails.id = leased.mail
"""

_MOVE: Final = "UPDATE mails SET transport = ? WHERE id = ?"

_PARK: Final = "UPDATE mails SET waits_for = 'topic' WHERE id = ?"

_NOTE_PARKED: Final = "UPDATE topics SET parked = 1 WHERE id = ? AND parked = 0"

_GIVE_UP: Final = """
UPDATE mails SET state = ?, state_at_ms = ?, waits_for = NULL, detail = ? WHERE id = ?
"""

_NEXT_DUE: Final = """
SELECT min(due_at_ms) FROM mails WHERE transport = ? AND waits_for = 'due_time' AND lane = ?
"""

_FIRST: Final = """
SELECT due_at_ms, id FROM mails
WHERE transport = ? AND waits_for = ? AND lane = ? AND due_at_ms <= ?
ORDER BY due_at_ms, id LIMIT 1
"""

# Whatever the wall clock says, mail that waits for its turn only is due.
_EVER: Final = 2**62

MOVED_A_CLAIM: Final = 1_000
"""So many mails that may not go are moved aside in one claim; the next goes on."""
LOOKED_AT_ONCE: Final = 200

_WHY_GIVEN_UP: Final = {
    State.SUPPRESSED: "the address is on the suppression list",
    State.FAILED: "expired before it could be sent",
}


@dataclass(frozen=True, slots=True)
class Ask:
    """What a sender could hand over now, through one transport."""

    sender: int
    transport: str
    queues: tuple[str, ...]
    """Where the mail waits that it may take: values of `mails.transport`."""
    rates: Mapping[str, Limit]
    """The limits a second that hold for it: the transport's, and its domain's, by way."""
    batch_size: int
    calls: int
    """Calls it has room for; of these, `calls_bulk` may be of the bulk lane."""
    calls_bulk: int
    bulk_quota: int | None = None
    """What the 24-hour quota and limits over longer windows leave for bulk mail; None: none."""
    quota: int | None = None
    """What they leave for any mail."""
    trial: bool = False
    """Ask for one mail, to find out whether the provider takes mail again."""
    alone: bool = False
    """Ask for one mail whose last hand-over ended its sender, to be sent with no other."""
    domain_way: str | None = None
    """`transport@domain`, when its mail is all to one domain that LIMITS names."""

    @property
    def ways(self) -> tuple[str, ...]:
        """Whose limits a hand-over counts for."""
        return (self.transport, self.domain_way) if self.domain_way else (self.transport,)


class Head(NamedTuple):
    """The mail of some queues that is to go first; the least of several heads goes first."""

    lane_order: int
    """0: interactive."""
    due_at_ms: int
    id: int


@dataclass(frozen=True, slots=True)
class Lease:
    """Mails to be handed over within one slot, from `slot.at_us` on, by this sender alone."""

    slot_id: int
    slot: Slot
    mails: tuple[ClaimedMail, ...]


@dataclass(frozen=True, slots=True)
class Claim:
    """What a claim gave."""

    leases: list[Lease]
    moved_aside: int
    """Mails that stood before others and may not go now; there may be more of them."""


Place = tuple[int, int, str, str]
"""A waiting mail's row, topic, queue and lane."""


class _Candidate(NamedTuple):
    mail: ClaimedMail
    topic: int
    queue: str
    lane: Lane
    expires_at_ms: int | None
    held: bool
    suppressed: bool

    @property
    def place(self) -> Place:
        return self.mail.id, self.topic, self.queue, self.lane


class Queue:
    """What waits to be sent."""

    def __init__(self, db: Database, slots: Slots, limits: Limits) -> None:
        self._db = db
        self._slots = slots
        self._limits = limits

    def names(self) -> list[str]:
        """The queues that hold unfinished mail."""
        return [
            name
            for (name,) in self._db.all(
                "SELECT DISTINCT transport FROM queue_depths WHERE mails > 0"
            )
        ]

    def head(self, queues: Iterable[str], now_ms: int) -> Head | None:
        """What a claim would take first, None if nothing: a read, for the idle."""
        for order, lane in enumerate(Lane):
            found = [
                Head(order, *row)
                for queue in queues
                for waits_for, latest in ((WaitsFor.TURN, _EVER), (WaitsFor.DUE_TIME, now_ms))
                if (row := self._db.one(_FIRST, (queue, waits_for, lane, latest)))
            ]
            if found:
                return min(found)
        return None

    def has_alone(self, queue: str) -> bool:
        """Whether mail waits to be handed over with no other."""
        return any(self._db.one(_FIRST, (queue, WaitsFor.ALONE, lane, _EVER)) for lane in Lane)

    def next_due_at_ms(self, queue: str) -> int | None:
        """When the next scheduled or deferred mail is due."""
        found = [self._db.one(_NEXT_DUE, (queue, lane)) for lane in Lane]
        return min((row[0] for row in found if row and row[0] is not None), default=None)

    def claim(self, ask: Ask, *, now_ms: int, now_us: int) -> Claim:
        """Lease due mails and their slots, in the running transaction."""
        if ask.alone:
            return self._claim_alone(ask, now_ms, now_us)
        slots = self._slots.plan(
            ask.rates,
            now_us=now_us,
            recipients=ask.calls * ask.batch_size,
            batch_size=ask.batch_size,
        )
        if ask.batch_size > 1:
            slots = slots[: ask.calls]  # each is a call of its own
        tally = Tally()
        room = _within(ask.quota, sum(slot.recipients for slot in slots))
        mails, moved = self._take(ask, Lane.INTERACTIVE, room, now_ms, tally)
        for_bulk = min(room - len(mails), ask.calls_bulk * ask.batch_size)
        bulk, bulk_moved = self._take(
            ask, Lane.BULK, _within(ask.bulk_quota, for_bulk), now_ms, tally
        )
        leases = self._lease(ask, mails + bulk, slots, now_ms, tally)
        tally.write(self._db)
        return Claim(leases, moved + bulk_moved)

    def _claim_alone(self, ask: Ask, now_ms: int, now_us: int) -> Claim:
        slots = self._slots.plan(ask.rates, now_us=now_us, recipients=1, batch_size=ask.batch_size)
        tally = Tally()
        mails: list[_Candidate] = []
        moved = 0
        for lane, quota in ((Lane.INTERACTIVE, ask.quota), (Lane.BULK, ask.bulk_quota)):
            if slots and not mails and _within(quota, 1):
                found = self._candidates(ask, WaitsFor.ALONE, lane, _EVER, 1)[:1]
                mails = self._sorted_out(found, now_ms, tally)
                moved += len(found) - len(mails)
        leases = self._lease(ask, mails, slots, now_ms, tally)
        tally.write(self._db)
        return Claim(leases, moved)

    def _take(
        self, ask: Ask, lane: Lane, room: int, now_ms: int, tally: Tally
    ) -> tuple[list[_Candidate], int]:
        """Up to `room` mails of a lane that may go, oldest due first; how many were moved aside."""
        taken: list[_Candidate] = []
        moved = 0
        look_at = room
        while len(taken) < room and moved < MOVED_A_CLAIM:
            waiting = sorted(
                (
                    *self._candidates(ask, WaitsFor.TURN, lane, _EVER, look_at),
                    *self._candidates(ask, WaitsFor.DUE_TIME, lane, now_ms, look_at),
                ),
                key=lambda candidate: (candidate.mail.due_at_ms, candidate.mail.id),
            )
            already = {candidate.mail.id for candidate in taken}
            found = [c for c in waiting if c.mail.id not in already][: look_at - len(taken)]
            good = self._sorted_out(found, now_ms, tally)
            taken += good
            moved += len(found) - len(good)
            if len(good) == len(found):
                break
            look_at = max(room, LOOKED_AT_ONCE)  # more of the same is likely to follow
        return taken[:room], moved

    def _candidates(
        self, ask: Ask, waits_for: WaitsFor, lane: Lane, latest_due_ms: int, limit: int
    ) -> list[_Candidate]:
        """The first `limit` of each queue."""
        return [
            _candidate(row)
            for queue in ask.queues
            for row in self._db.all(_CANDIDATES, (queue, waits_for, lane, latest_due_ms, limit))
        ]

    def _sorted_out(
        self, candidates: list[_Candidate], now_ms: int, tally: Tally
    ) -> list[_Candidate]:
        """Those that may be sent; the others are parked, finished, or put into their own queue."""
        good = []
        for candidate in candidates:
            own = self._limits.own_queue(candidate.queue, candidate.mail.recipient.email)
            if own != candidate.queue:  # accepted before its domain had a limit
                self._db.run(_MOVE, (own, candidate.mail.id))
                tally.requeued(candidate.queue, own, candidate.lane)
            elif candidate.held:
                self._db.run(_PARK, (candidate.mail.id,))
                self._db.run(_NOTE_PARKED, (candidate.topic,))
            elif candidate.suppressed:
                give_up(self._db, candidate.place, State.SUPPRESSED, now_ms, tally)
            elif candidate.expires_at_ms is not None and candidate.expires_at_ms <= now_ms:
                give_up(self._db, candidate.place, State.FAILED, now_ms, tally)
            else:
                good.append(candidate)
        return good

    def _lease(
        self, ask: Ask, mails: list[_Candidate], slots: list[Slot], now_ms: int, tally: Tally
    ) -> list[Lease]:
        leases = []
        leased: list[tuple[int, int]] = []
        position = 0
        for slot in slots:
            part = mails[position : position + slot.recipients]
            if not part:
                break
            position += len(part)
            filled = slot.holding(len(part), ask.rates.values())
            slot_id = self._slots.record(ask.ways, ask.rates, ask.sender, filled)
            leases.append(Lease(slot_id, filled, tuple(c.mail for c in part)))
            leased += [(c.mail.id, slot.at_us) for c in part]
        if leased:
            rows = msgspec.json.encode(leased).decode()
            self._db.run(_LEASE, (now_ms, ask.sender, ask.transport, rows))
        alike = Counter((c.topic, c.queue, c.lane) for c in mails[:position])
        for of_queue, number in alike.items():
            tally.moved(*of_queue, State.PENDING, State.SENDING, number)
        return leases


def give_up(db: Database, place: Place, state: State, now_ms: int, tally: Tally) -> None:
    """Finish a waiting mail that may not be sent any more: `suppressed`, or `failed` as expired."""
    mail_id, topic, queue, lane = place
    why = _WHY_GIVEN_UP[state]
    db.run(_GIVE_UP, (state, now_ms, why, mail_id))
    tally.moved(topic, queue, lane, State.PENDING, state)
    append_own(db, [(EventType(state), now_ms, mail_id, topic, "queue", why)])


def _within(quota: int | None, wanted: int) -> int:
    return wanted if quota is None else max(0, min(quota, wanted))


def _candidate(row: tuple[Any, ...]) -> _Candidate:
    (mail_id, topic, message, recipient, name, data, checksum, due_at_ms, attempts) = row[:9]
    (lane, request_id, accepted_at_ms, expires_at_ms, held, queue) = row[9:15]
    suppressed, http_request_id = row[15:]
    made_of = (request_id, accepted_at_ms, topic, message, recipient, name, data)
    if mail_checksum(*made_of) != checksum:
        raise StoreDamaged(
            f"the database is damaged: mail {request_id} is not what was accepted."
            " Nothing more is sent from it; restore a back-up."
        )
    mail = ClaimedMail(
        id=mail_id,
        request_id=request_id,
        message_id=message,
        recipient=recipient_of(recipient, name, data),
        accepted_at_ms=accepted_at_ms,
        due_at_ms=due_at_ms,
        attempt=attempts + 1,
        lane=Lane(lane),
        http_request_id=http_request_id,
    )
    return _Candidate(mail, topic, queue, mail.lane, expires_at_ms, bool(held), bool(suppressed))
