"""Shelves: what plugins keep in the database, each its own, without a word of SQL.

`Draft` is for a plugin that may take long: what it does to a shelf is gathered in memory and put
there by whoever commits, so that no transaction is open meanwhile.
"""

from __future__ import annotations

from typing import Final

from mailer.hookspecs import Shelf
from mailer.store.connection import Database
from mailer.store.idle import wake

MAX_KEY: Final = 500
MAX_VALUE_BYTES: Final = 1024 * 1024
_PAST_ALL: Final = "\U0010ffff"
"""Greater than any printable character."""

_READ: Final = """
SELECT key, value FROM shelves
WHERE plugin = ? AND key >= ? AND key < ? ORDER BY key LIMIT ?
"""


class PluginShelf:
    """One plugin's records as they are stored; changes belong to the running transaction."""

    def __init__(self, db: Database, plugin: str) -> None:
        self._db = db
        self._plugin = plugin

    def get(self, key: str) -> bytes | None:
        row = self._db.one(
            "SELECT value FROM shelves WHERE plugin = ? AND key = ?", (self._plugin, _checked(key))
        )
        return row[0] if row else None

    def put(self, key: str, value: bytes) -> None:
        self._db.run(
            "INSERT INTO shelves (plugin, key, value) VALUES (?, ?, ?)"
            " ON CONFLICT DO UPDATE SET value = excluded.value",
            (self._plugin, _checked(key), _checked_value(value)),
        )
        wake(self._db, self._plugin)

    def remove(self, key: str) -> None:
        self._db.run(
            "DELETE FROM shelves WHERE plugin = ? AND key = ?", (self._plugin, _checked(key))
        )

    def read(
        self, prefix: str = "", *, after: str = "", before: str | None = None, limit: int = 100
    ) -> list[tuple[str, bytes]]:
        bounds = (_start(prefix, after), _end(prefix, before))
        return self._db.all(_READ, (self._plugin, *bounds, limit))


class Draft:
    """A shelf with changes that are not stored yet."""

    def __init__(self, under: Shelf) -> None:
        self._under = under
        self._changes: dict[str, bytes | None] = {}

    def get(self, key: str) -> bytes | None:
        return self._changes[key] if key in self._changes else self._under.get(key)

    def put(self, key: str, value: bytes) -> None:
        self._changes[_checked(key)] = _checked_value(value)

    def remove(self, key: str) -> None:
        self._changes[_checked(key)] = None

    def read(
        self, prefix: str = "", *, after: str = "", before: str | None = None, limit: int = 100
    ) -> list[tuple[str, bytes]]:
        below = self._under.read(prefix, after=after, before=before, limit=limit + self._removed)
        found: dict[str, bytes | None] = dict(below)
        start, end = _start(prefix, after), _end(prefix, before)
        found |= {key: value for key, value in self._changes.items() if start <= key < end}
        return [(key, value) for key, value in sorted(found.items()) if value is not None][:limit]

    @property
    def _removed(self) -> int:
        return sum(value is None for value in self._changes.values())

    def put_on(self, shelf: Shelf) -> None:
        """Make all changes there."""
        for key, value in self._changes.items():
            if value is None:
                shelf.remove(key)
            else:
                shelf.put(key, value)


def _start(prefix: str, after: str) -> str:
    """The first key that may be meant. A NUL comes before any printable character."""
    return max(prefix, after + "\0")


def _end(prefix: str, before: str | None) -> str:
    """The first key that is too great."""
    past_prefix = prefix + _PAST_ALL
    return past_prefix if before is None else min(before, past_prefix)


def _checked(key: str) -> str:
    if not (0 < len(key) <= MAX_KEY and key.isprintable()):
        raise ValueError(f"a key of a shelf is 1 to {MAX_KEY} printable characters: {key[:80]!r}")
    return key


def _checked_value(value: bytes) -> bytes:
    if not isinstance(value, bytes) or len(value) > MAX_VALUE_BYTES:
        raise ValueError(f"a value on a shelf is bytes, at most {MAX_VALUE_BYTES} of them")
    return value
