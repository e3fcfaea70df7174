"""Addresses that are not to be written to, everywhere or within a group of topics."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from mailer.mail import Suppression
from mailer.store.connection import Database
from mailer.vocabulary import SuppressionReason

SUPPRESSED: Final = """
EXISTS (SELECT 1 FROM suppressions s WHERE s.email = lower(m.recipient)
    AND s.scope IN ('', substr(t.topic_id, 1, instr(t.topic_id || '/', '/') - 1)))
"""
"""The condition for mails `m` of topics `t`; the scopes are `vocabulary.suppression_scope`."""

PAGE: Final = 1_000


def suppress(
    db: Database, email: str, scope: str, reason: SuppressionReason, detail: str, now_ms: int
) -> bool:
    """Add an address; False when it was there already. Runs in a transaction."""
    return (
        db.run(
            "INSERT INTO suppressions (email, scope, reason, detail, created_at_ms)"
            " VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (email.lower(), scope, reason, detail, now_ms),
        )
        > 0
    )


class Suppressions:
    """The list as people see and change it."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def add(
        self, email: str, *, scope: str, reason: SuppressionReason, detail: str, now_ms: int
    ) -> bool:
        """False when it was there already."""
        return suppress(self._db, email, scope, reason, detail, now_ms)

    def remove(self, email: str, *, scope: str | None) -> int:
        """Remove an address in one scope, or with None in all; how many entries went."""
        return self._db.run(
            "DELETE FROM suppressions WHERE email = :email AND (:scope IS NULL OR scope = :scope)",
            {"email": email.lower(), "scope": scope},
        )

    def list(self, *, email: str | None, after: tuple[str, str], limit: int) -> list[Suppression]:
        """In order of address and scope, behind `after`."""
        if email is not None:
            rows = self._db.all(
                "SELECT email, scope, reason, detail, created_at_ms FROM suppressions"
                " WHERE email = ? AND (email, scope) > (?, ?) ORDER BY email, scope LIMIT ?",
                (email.lower(), *after, limit),
            )
        else:
            rows = self._db.all(
                "SELECT email, scope, reason, detail, created_at_ms FROM suppressions"
                " WHERE (email, scope) > (?, ?) ORDER BY email, scope LIMIT ?",
                (*after, limit),
            )
        return [
            Suppression(address, scope, SuppressionReason(reason), detail, created_at_ms)
            for address, scope, reason, detail, created_at_ms in rows
        ]

    def all(self) -> Iterator[Suppression]:
        """Every entry, in order, read a page at a time: no read transaction stays open."""
        after = ("", "")
        while page := self.list(email=None, after=after, limit=PAGE):
            yield from page
            after = (page[-1].email, page[-1].scope)
