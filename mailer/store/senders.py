"""Senders on record: who may hold leases, and whether that process still lives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from mailer.store.connection import Database

NO_PROCESS: Final = -1
"""As `pid_started`: whatever process has that pid now, it is not this sender."""


@dataclass(frozen=True, slots=True)
class Sender:
    """A sender process; `pid_started` tells it from a later process with the same pid."""

    id: int
    pid: int
    pid_started: int
    lease_until_us: int


class Senders:
    """Registration, leases, and the end of a sender."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def register(self, pid: int, pid_started: int, lease_until_us: int) -> int:
        """A new sender's id."""
        return self._db.insert(
            "INSERT INTO senders (pid, pid_started, lease_until_us) VALUES (?, ?, ?)",
            (pid, pid_started, lease_until_us),
        )

    def renew(self, sender: int, lease_until_us: int) -> None:
        self._db.run("UPDATE senders SET lease_until_us = ? WHERE id = ?", (lease_until_us, sender))

    def all(self) -> list[Sender]:
        rows = self._db.all("SELECT id, pid, pid_started, lease_until_us FROM senders ORDER BY id")
        return [Sender(*row) for row in rows]

    def remove(self, sender: int) -> None:
        """One that still holds mail stays on record, so that the mail is rescued."""
        self._db.run(
            "DELETE FROM senders WHERE id = :id"
            " AND NOT EXISTS (SELECT 1 FROM mails WHERE sender = :id)",
            {"id": sender},
        )

    def adopt_boot(self, boot_id: str) -> bool:
        """Whether this is another boot than the one on record, which it then becomes.

        What the senders of the boot before have left proves nothing any more: their slots are
        instants of another clock, and a process of now may have the pid and the age of one of them.
        """
        changed = self._db.run("UPDATE meta SET boot_id = ? WHERE boot_id <> ?", (boot_id, boot_id))
        if changed:
            self._db.run("UPDATE mails SET slot_us = NULL WHERE sender IS NOT NULL")
            self._db.run("UPDATE senders SET pid_started = ?", (NO_PROCESS,))
        return changed > 0
