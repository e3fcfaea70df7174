"""What a receiver reads: JSON in the form that Standard Webhooks recommends.

One event is `{"type", "timestamp", "data"}`; a batch has the type `batch`, and as its data a list
of such. What the provider sent stays here: it is long, and `GET /v1/events` has it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Final

import msgspec

from mailer.hookspecs import Event
from mailer_webhook.queue import Delivery

_STAYS_HERE: Final = ("at_ms", "raw")


def body_of(event: Event) -> bytes:
    """An event as it is sent, and as it stays until it has been."""
    data = asdict(event)
    for name in _STAYS_HERE:
        del data[name]
    return _body(event.type, event.at_ms, data)


def test_event(endpoint_id: str, now_ms: int) -> tuple[str, bytes]:
    """The webhook-id and body that `mailer webhooks test` sends."""
    return f"test-{now_ms:x}", _body("test", now_ms, {"endpoint_id": endpoint_id})


def request(deliveries: Sequence[Delivery], *, batch: bool, now_ms: int) -> tuple[str, bytes]:
    """The webhook-id and body that bring these; without `batch` there is one.

    The same events have the same id at every attempt, by which a receiver knows them again. A
    batch may be made up otherwise the next time: its events have ids of their own.
    """
    if not batch:
        return deliveries[0].event_id, bytes(deliveries[0].body)
    ids = ".".join(delivery.event_id for delivery in deliveries)
    webhook_id = f"batch-{hashlib.sha256(ids.encode()).hexdigest()[:32]}"
    return webhook_id, _body("batch", now_ms, [delivery.body for delivery in deliveries])


def _body(type_: str, at_ms: int, data: object) -> bytes:
    at = datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds")
    timestamp = at.replace("+00:00", "Z")
    return msgspec.json.encode({"type": type_, "timestamp": timestamp, "data": data})
