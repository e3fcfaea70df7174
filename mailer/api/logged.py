"""An entry of the event log as JSON, the same from the API and from the command line."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from mailer.api import times
from mailer.hookspecs import Event


def described(event: Event) -> dict[str, Any]:
    """Its fields, with the time as the API writes times."""
    fields = asdict(event)
    at_ms = fields.pop("at_ms")
    return {"id": fields.pop("id"), "type": fields.pop("type"), "at": times.written(at_ms)} | fields
