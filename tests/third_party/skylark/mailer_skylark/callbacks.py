"""Skylark's callbacks: JSON, with the HMAC-SHA256 of the body under the account's key."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence

from mailer.errors import Fault, InvalidRequest
from mailer.hookspecs import ProviderEvent
from mailer.vocabulary import EventType

SIGNATURE = "skylark-signature"
TYPES = {
    "landed": EventType.DELIVERY,
    "returned": EventType.BOUNCE,
    "spam": EventType.COMPLAINT,
}


def translated(key: str, headers: Mapping[str, str], body: bytes) -> Sequence[ProviderEvent] | None:
    """The events told. Raises InvalidRequest when the signature is not Skylark's."""
    given = headers.get(SIGNATURE)
    if given is None:
        return None
    if not key or not hmac.compare_digest(given.encode(), signature(key, body).encode()):
        raise InvalidRequest([Fault("", "signature", "the signature is not Skylark's")])
    raw = body.decode()
    return [
        ProviderEvent(
            type=TYPES.get(entry["what"], EventType.OTHER),
            at_ms=entry["at_ms"],
            source="skylark",
            source_event_id=entry["id"],
            request_id=entry["ref"],
            provider_id=entry["message"],
            recipient=entry["to"],
            permanent=entry["what"] == "returned",
            detail=entry.get("words", ""),
            raw=raw,
        )
        for entry in json.loads(body)
    ]


def signature(key: str, body: bytes) -> str:
    return hmac.new(key.encode(), body, hashlib.sha256).hexdigest()
