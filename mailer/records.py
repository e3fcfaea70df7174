"""A plugin's own records: its shelf, the event log as it may read it, and what it has learnt.

Workers are handed them (`worker`); a plugin's commands and checks open them here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from mailer.clock import Clock, SystemClock
from mailer.errors import StoreUnavailable
from mailer.hookspecs import Event, ProviderEvent, Shelf
from mailer.settings import Settings
from mailer.store import Store
from mailer.store.log import place_of
from mailer.store.outcomes import rules_of


class OwnRecords:
    """One plugin's; `access.Access` says what its parts promise."""

    def __init__(self, store: Store, plugin: str, clock: Clock) -> None:
        self.shelf: Shelf = store.shelf(plugin)
        self._store = store
        self._clock = clock

    @contextmanager
    def write(self) -> Iterator[None]:
        with self._store.write():
            yield

    def learn(self, events: Sequence[ProviderEvent]) -> int:
        with self._store.write():
            return self._store.events.learn(events, now_ms=self._clock.wall_ms())

    def events(self, *, after: str = "", limit: int = 100) -> Sequence[Event]:
        place = place_of(after) if after else 0
        while True:
            page = self._store.log.page(place, limit=limit)
            if page.events or not page.more:
                return page.events
            place = page.end


@contextmanager
def open_records(settings: Settings, plugin: str) -> Iterator[OwnRecords]:
    """For a command or check of the plugin of that name. Raises StoreError."""
    require_database(settings)
    store = Store(settings.database_path, rules_of(settings))
    try:
        yield OwnRecords(store, plugin, SystemClock())
    finally:
        store.close()


def require_database(settings: Settings) -> None:
    """Raises StoreUnavailable, with the next step, when there is none yet."""
    path = settings.database_path.absolute()
    if not path.exists():
        raise StoreUnavailable(
            f"{path} does not exist: run `mailer migrate`, or let DATABASE_URL name the right file"
        )
