"""What waits to be delivered, on the plugin's shelf.

An endpoint's deliveries are parted into streams by their mail, so that one job at a time works on
a stream and a mail's events keep their order. Records of a stream, by key:

    new/ENDPOINT.STREAM/PLACE            not tried yet, in the order of the event log
    behind/ENDPOINT.STREAM/MAIL/PLACE    has failed, or waits behind one of its mail that has
    due/ENDPOINT.STREAM/WHEN/PLACE       when the first in a mail's line is tried again
    replay/ENDPOINT.                     see `replay`

The event plugin only ever adds to `new`, without having looked; all else is done by the deliverer,
within transactions.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from mailer.hookspecs import Event, Shelf
from mailer_webhook.schedule import Decision, Fate

STREAMS: Final = 4
"""Of each endpoint: so many requests may be in flight to it."""
COUNTED: Final = 1_000
_PAST_ALL: Final = "\U0010ffff"
_DROPPED_AT_ONCE: Final = 500


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """One event on its way to one endpoint."""

    event_id: str
    mail: str
    """What it has to keep its place in: the mail's id; the event's own when it is of no mail."""
    body: msgspec.Raw
    attempts: int = 0
    first_tried_at_ms: int | None = None
    due_at_ms: int | None = None
    """When it is tried again; None before the first try and while it waits behind another."""

    @classmethod
    def of(cls, event: Event, body: bytes) -> Delivery:
        return cls(event_id=event.id, mail=event.mail_id or event.id, body=msgspec.Raw(body))

    @property
    def place(self) -> str:
        """Orders deliveries as the event log does: ids of events begin with their place there."""
        return self.event_id.partition("-")[0].zfill(20)

    @property
    def stream(self) -> int:
        return zlib.crc32(self.mail.encode()) % STREAMS


class Stream:
    """One of an endpoint's streams. Changes belong to a transaction."""

    def __init__(self, shelf: Shelf, endpoint_id: str, number: int) -> None:
        name = f"{endpoint_id}.{number}"
        self._shelf = shelf
        self._new, self._behind, self._due = f"new/{name}/", f"behind/{name}/", f"due/{name}/"

    def add(self, delivery: Delivery) -> None:
        self._shelf.put(self._new + delivery.place, msgspec.json.encode(delivery))

    def ready(self, now_ms: int, limit: int) -> tuple[list[Delivery], list[Delivery]]:
        """Those to be tried now, and new ones that are to be put behind others of their mail.

        Those that have failed before come first, then new ones in the order of the log.
        """
        again = self._due_again(now_ms, limit)
        lines_wait = bool(self._shelf.read(self._behind, limit=1))
        ready, blocked = again, []
        for _, value in self._shelf.read(self._new, limit=limit):
            delivery = _decoded(value)
            if lines_wait and self._shelf.read(self._line(delivery), limit=1):
                blocked.append(delivery)
            elif len(ready) < limit:
                ready.append(delivery)
        return ready, blocked

    def next_due_at_ms(self) -> int | None:
        """When the next of those that have failed is due."""
        found = self._shelf.read(self._due, limit=1)
        return int(found[0][0].removeprefix(self._due).partition("/")[0]) if found else None

    def put_behind(self, delivery: Delivery) -> None:
        """Have a new one wait until those of its mail before it are done."""
        self._shelf.remove(self._new + delivery.place)
        key = self._line(delivery) + delivery.place
        if self._shelf.get(key) is None:  # the event may have been told twice
            self._shelf.put(key, msgspec.json.encode(delivery))

    def settle(self, delivery: Delivery, decision: Decision, now_ms: int) -> None:
        """Write down what was decided after a try."""
        self._shelf.remove(self._new + delivery.place)
        stored = self._shelf.get(self._line(delivery) + delivery.place)
        if stored is not None:
            self._shelf.remove(self._due_key(_decoded(stored)))
        if decision.fate is Fate.AGAIN:
            first = delivery.first_tried_at_ms
            self._try_at(
                now_ms + decision.wait_ms,
                delivery,
                attempts=delivery.attempts + decision.uses_attempt,
                first_tried_at_ms=now_ms if first is None else first,
            )
            return
        self._shelf.remove(self._line(delivery) + delivery.place)
        for _, value in self._shelf.read(self._line(delivery), limit=1):
            self._try_at(now_ms, _decoded(value))

    def _try_at(self, due_at_ms: int, delivery: Delivery, **changes: Any) -> None:
        delivery = msgspec.structs.replace(delivery, due_at_ms=due_at_ms, **changes)
        self._shelf.put(self._line(delivery) + delivery.place, msgspec.json.encode(delivery))
        self._shelf.put(self._due_key(delivery), delivery.mail.encode())

    def _due_again(self, now_ms: int, limit: int) -> list[Delivery]:
        found = []
        before = f"{self._due}{now_ms + 1:015}"
        for key, mail in self._shelf.read(self._due, before=before, limit=limit):
            place = key.rpartition("/")[2]
            value = self._shelf.get(f"{self._behind}{mail.decode()}/{place}")
            if value is not None:
                found.append(_decoded(value))
        return found

    def _line(self, delivery: Delivery) -> str:
        return f"{self._behind}{delivery.mail}/"

    def _due_key(self, delivery: Delivery) -> str:
        return f"{self._due}{delivery.due_at_ms or 0:015}/{delivery.place}"


def streams(shelf: Shelf, endpoint_id: str) -> list[Stream]:
    return [Stream(shelf, endpoint_id, number) for number in range(STREAMS)]


def add(shelf: Shelf, endpoint_id: str, delivery: Delivery) -> None:
    """Have an endpoint told of an event; twice is as good as once."""
    Stream(shelf, endpoint_id, delivery.stream).add(delivery)


def waiting(shelf: Shelf, endpoint_id: str, at_most: int = COUNTED) -> int:
    """How many deliveries wait for an endpoint, counted so far."""
    tried = len(shelf.read(f"behind/{endpoint_id}.", limit=at_most))
    return min(at_most, tried + untried(shelf, endpoint_id, at_most))


def untried(shelf: Shelf, endpoint_id: str, at_most: int) -> int:
    """Of those that wait, how many have not been tried yet nor wait behind others."""
    return len(shelf.read(f"new/{endpoint_id}.", limit=at_most))


def strays(shelf: Shelf, endpoint_ids: Sequence[str]) -> list[str]:
    """Keys of some records whose endpoint is no more."""
    for kind in ("new/", "behind/", "due/", "replay/"):
        after = ""
        while found := shelf.read(kind, after=after, limit=1):
            endpoint_id = found[0][0].removeprefix(kind).partition(".")[0]
            its_own = f"{kind}{endpoint_id}."
            if endpoint_id not in endpoint_ids:
                return [key for key, _ in shelf.read(its_own, limit=_DROPPED_AT_ONCE)]
            after = its_own + _PAST_ALL
    return []


def _decoded(value: bytes) -> Delivery:
    return msgspec.json.decode(value, type=Delivery)
