"""Appending to the event log what mailer itself did."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from mailer.store.connection import Database
from mailer.vocabulary import EventType

_APPEND: Final = """
INSERT INTO events (type, at_ms, mail, topic, source, detail) VALUES (?, ?, ?, ?, ?, ?)
"""


def append_own(db: Database, rows: Sequence[tuple[EventType, int, int, int, str, str]]) -> None:
    """Rows of (type, at_ms, mail, topic, source, detail); runs in a transaction."""
    db.many(_APPEND, rows)
