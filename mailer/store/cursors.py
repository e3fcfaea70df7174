"""How far each event plugin has come in the log, what it fails at, and what was put aside for it.

A cursor moves forward only, and only from where its mover believes it to be: two processes of one
plugin can't move it back and forth.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from mailer.errors import NotFound
from mailer.store.connection import Database, Row
from mailer.store.log import Log

ALL: Final = 2**62

_MOVE: Final = """
UPDATE cursors SET event = :new, failing = iif(failing > :new, failing, NULL)
WHERE plugin = :plugin AND event = :old
"""

_PUT_ASIDE: Final = """
INSERT INTO dead_letters (plugin, event, failures, detail, failed_at_ms) VALUES (?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET failures = excluded.failures, detail = excluded.detail,
    failed_at_ms = excluded.failed_at_ms, retry = 0
"""

_LIVE: Final = "live AND plugin NOT IN (SELECT plugin FROM idle_plugins)"

_CURSOR: Final = f"""
SELECT plugin, event, {_LIVE}, failing, failures, detail, retry_at_ms FROM cursors
"""

_DEAD_LETTER: Final = """
SELECT plugin, event, failures, detail, failed_at_ms, retry FROM dead_letters
"""


@dataclass(frozen=True, slots=True)
class Failure:
    """How often a plugin failed at an event, and how the last time."""

    event: int
    times: int
    detail: str


@dataclass(frozen=True, slots=True)
class Cursor:
    """One plugin's place in the log."""

    plugin: str
    event: int
    """The last event that is done with."""
    live: bool
    """Whether the plugin is there, and not idle."""
    failure: Failure | None
    """Of the event it is to be told of again."""
    retry_at_ms: int


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An event that a plugin failed at for good, unless someone has it told again."""

    plugin: str
    failure: Failure
    failed_at_ms: int
    retry: bool


@dataclass(frozen=True, slots=True)
class Held:
    """Old events that are kept, since not all event plugins were told of them."""

    behind: int
    """Those behind this place of the log."""
    longest_ms: int
    """But no longer than so much beyond their time."""


class Cursors:
    """The event plugins' places and failures."""

    def __init__(self, db: Database, log: Log) -> None:
        self._db = db
        self._log = log

    def register(self, plugins: Collection[str]) -> None:
        """These are there now, and no others; a new one begins at the log's end."""
        self._db.run("UPDATE cursors SET live = 0")
        for plugin in plugins:
            self._db.run(
                "INSERT INTO cursors (plugin, event, live) VALUES (?, ?, 1)"
                " ON CONFLICT DO UPDATE SET live = 1",
                (plugin, self._log.end()),
            )

    def all(self) -> list[Cursor]:
        return [_cursor(row) for row in self._db.all(_CURSOR + "ORDER BY plugin")]

    def get(self, plugin: str) -> Cursor:
        """Raises NotFound for a plugin that was never registered."""
        row = self._db.one(_CURSOR + "WHERE plugin = ?", (plugin,))
        if row is None:
            raise NotFound(f"there is no event plugin {plugin}")
        return _cursor(row)

    def held(self, longest_ms: int) -> Held | None:
        """What is held back by the plugins that are told; None when they were told of all."""
        (behind,) = self._db.one(f"SELECT min(event) FROM cursors WHERE {_LIVE}") or (None,)
        if behind is None or behind >= self._log.end():
            return None
        return Held(behind, longest_ms)

    def move(self, plugin: str, old: int, new: int) -> bool:
        """Everything up to `new` was told; False if it was moved from `old` by someone else."""
        return self._db.run(_MOVE, {"plugin": plugin, "old": old, "new": new}) > 0

    def fail(self, plugin: str, failure: Failure, *, retry_at_ms: int) -> None:
        """The event is to be told again then."""
        self._db.run(
            "UPDATE cursors SET failing = ?, failures = ?, detail = ?, retry_at_ms = ?"
            " WHERE plugin = ?",
            (failure.event, failure.times, failure.detail, retry_at_ms, plugin),
        )

    def put_aside(self, plugin: str, failure: Failure, *, now_ms: int) -> None:
        """Make a dead letter of an event; of one that is one already, note what is new."""
        self._db.run(_PUT_ASIDE, (plugin, failure.event, failure.times, failure.detail, now_ms))

    def dead_letters(self, *, after: tuple[str, int] = ("", 0), limit: int) -> list[DeadLetter]:
        """By plugin, oldest event first, behind the plugin and event `after`."""
        rows = self._db.all(
            _DEAD_LETTER + "WHERE (plugin, event) > (?, ?) ORDER BY plugin, event LIMIT ?",
            (*after, limit),
        )
        return [_dead_letter(row) for row in rows]

    def dead_count(self, plugin: str, *, at_most: int = ALL) -> int:
        """How many dead letters a plugin has; no more are counted than `at_most`."""
        row = self._db.one(
            "SELECT count(*) FROM (SELECT 1 FROM dead_letters WHERE plugin = ? LIMIT ?)",
            (plugin, at_most),
        )
        return int(row[0]) if row else 0

    def to_retry(self, plugin: str) -> DeadLetter | None:
        """The first dead letter that someone wants told again."""
        row = self._db.one(
            _DEAD_LETTER + "WHERE plugin = ? AND retry = 1 ORDER BY event LIMIT 1", (plugin,)
        )
        return _dead_letter(row) if row else None

    def retry(self, plugin: str, event: int | None = None) -> int:
        """Have one dead letter of a plugin, or all of them, told once more; how many."""
        return self._db.run(
            "UPDATE dead_letters SET retry = 1 WHERE plugin = ? AND event = coalesce(?, event)",
            (plugin, event),
        )

    def drop(self, plugin: str, event: int | None = None) -> int:
        """Forget one dead letter of a plugin, or all of them; how many."""
        return self._db.run(
            "DELETE FROM dead_letters WHERE plugin = ? AND event = coalesce(?, event)",
            (plugin, event),
        )

    def forget_dead_letters(self, before_ms: int, step: int) -> int:
        """Remove those that were put aside before then; how many went."""
        return self._db.run(
            "DELETE FROM dead_letters WHERE (plugin, event) IN (SELECT plugin, event"
            " FROM dead_letters WHERE failed_at_ms < ? LIMIT ?)",
            (before_ms, step),
        )


def _cursor(row: Row) -> Cursor:
    plugin, event, live, failing, failures, detail, retry_at_ms = row
    failure = None if failing is None else Failure(failing, failures, detail)
    return Cursor(plugin, event, bool(live), failure, retry_at_ms)


def _dead_letter(row: Row) -> DeadLetter:
    plugin, event, failures, detail, failed_at_ms, retry = row
    return DeadLetter(plugin, Failure(event, failures, detail), failed_at_ms, bool(retry))
