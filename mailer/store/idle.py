"""Plugins that have nothing to do for now: no event is kept for them, and no process runs.

One is woken in the very transaction that puts something on its shelf, and is told of every event
from there on.
"""

from __future__ import annotations

from typing import Final

from mailer.store.connection import Database

_BEGIN_AT_THE_END: Final = """
UPDATE cursors SET failing = NULL,
    event = coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'events'), 0)
WHERE plugin = ?
"""


class Idle:
    """Changes belong to the running transaction."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def all(self) -> set[str]:
        """Their names."""
        return {plugin for (plugin,) in self._db.all("SELECT plugin FROM idle_plugins")}

    def rest(self, plugin: str) -> None:
        """It has nothing to do."""
        self._db.run(
            "INSERT INTO idle_plugins (plugin) VALUES (?) ON CONFLICT DO NOTHING", (plugin,)
        )

    def wake(self, plugin: str) -> None:
        """It may have something to do; harmless when it was not idle."""
        wake(self._db, plugin)


def wake(db: Database, plugin: str) -> None:
    """For the transaction that gives it something to do."""
    if db.run("DELETE FROM idle_plugins WHERE plugin = ?", (plugin,)):
        db.run(_BEGIN_AT_THE_END, (plugin,))
