"""Answers kept under a caller's idempotency key, so that a repeated request is not done twice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from mailer.store.connection import Database

KEPT_MS: Final = 48 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """The first answer given under a key, and the fingerprint of the request it answered."""

    fingerprint: bytes
    status: int
    body: bytes


class Idempotency:
    """Keys are the caller's own: `subject` is who authenticated."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._gathered: dict[tuple[str, str], tuple[KeptAnswer, int]] = {}

    def find(self, subject: str, key: str) -> KeptAnswer | None:
        """The answer on disk, or kept by the running transaction."""
        if (subject, key) in self._gathered:
            return self._gathered[subject, key][0]
        row = self._db.one(
            "SELECT fingerprint, status, body FROM idempotency WHERE subject = ? AND key = ?",
            (subject, key),
        )
        return KeptAnswer(*row) if row else None

    def keep(self, subject: str, key: str, answer: KeptAnswer, *, now_ms: int) -> None:
        """In the transaction that does what the answer says, when that ends."""
        self._gathered[subject, key] = answer, now_ms

    def store_gathered(self) -> None:
        """Store what the running transaction keeps."""
        self._db.many(
            "INSERT INTO idempotency (subject, key, fingerprint, status, body, created_at_ms)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            [
                (subject, key, answer.fingerprint, answer.status, answer.body, now_ms)
                for (subject, key), (answer, now_ms) in self._gathered.items()
            ],
        )

    def forget_gathered(self) -> None:
        """The transaction has ended."""
        self._gathered = {}

    def forget(self, before_ms: int, step: int) -> int:
        """Remove up to `step` answers older than that; how many went."""
        return self._db.run(
            "DELETE FROM idempotency WHERE (subject, key) IN"
            " (SELECT subject, key FROM idempotency WHERE created_at_ms < ? LIMIT ?)",
            (before_ms, step),
        )
