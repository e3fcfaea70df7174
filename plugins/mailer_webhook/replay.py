"""Replays: what happened since a time is told to an endpoint again, under the same ids.

Asked for on the shelf, done by the deliverer from the event log, a page at a time and only while
little waits for the endpoint: neither memory nor the database fills up. An event that waits already
is not sent twice for it.
"""

from __future__ import annotations

from typing import Final

import msgspec

from mailer.hookspecs import Access, Shelf
from mailer_webhook.endpoints import Endpoint
from mailer_webhook.payload import body_of
from mailer_webhook.queue import Delivery, add, untried

PAGE: Final = 200


class Replay(msgspec.Struct, frozen=True):
    since_ms: int
    asked_at_ms: int
    """What happened later is told anyway."""
    after: str = ""
    """The last event looked at."""


def _key(endpoint_id: str) -> str:
    return f"replay/{endpoint_id}."


def ask(shelf: Shelf, endpoint_id: str, *, since_ms: int, now_ms: int) -> None:
    """In place of one that may be under way."""
    shelf.put(_key(endpoint_id), msgspec.json.encode(Replay(since_ms, now_ms)))


def go_on(access: Access, endpoint: Endpoint) -> bool:
    """A page of the endpoint's replay, if there is one; whether to go on with it at once."""
    value = access.shelf.get(_key(endpoint.endpoint_id))
    if value is None or untried(access.shelf, endpoint.endpoint_id, PAGE) == PAGE:
        return False
    replay = msgspec.json.decode(value, type=Replay)
    events = access.events(after=replay.after, limit=PAGE)
    with access.write():
        if access.shelf.get(_key(endpoint.endpoint_id)) != value:
            return True  # asked for anew meanwhile
        for event in events:
            if replay.since_ms <= event.at_ms <= replay.asked_at_ms and endpoint.wants(event):
                add(access.shelf, endpoint.endpoint_id, Delivery.of(event, body_of(event)))
        if events:
            gone_on = msgspec.structs.replace(replay, after=events[-1].id)
            access.shelf.put(_key(endpoint.endpoint_id), msgspec.json.encode(gone_on))
        else:
            access.shelf.remove(_key(endpoint.endpoint_id))
    return bool(events)
