"""The contract of event plugins: whatever the log holds is taken, again and again if need be."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest
from pluggy import HookCaller

from mailer.hookspecs import Event, Shelf
from mailer.settings import Settings
from mailer.store import Store
from mailer.store.migrate import migrate
from mailer.store.outcomes import rules_of
from mailer.testing.asking import hook_of
from mailer.vocabulary import EventType

ODD: Final = "Grüße 😀\r\n\t\u2028 'quoted\" <b>&amp;</b> \\ %s {0} ../..\x7f"
LONGEST_CALL_S: Final = 5.0
FLAT_BYTES: Final = 2 * 1024 * 1024


def event(number: int = 1, **changes: object) -> Event:
    """Make an event that differs from its siblings in id, mail and recipient."""
    told = Event(
        id=f"{number:020d}",
        type=EventType.DELIVERY,
        at_ms=1_700_000_000_000 + number,
        mail_id=f"contract-{number}",
        batch_id="contract",
        topic_id="news/2030-01",
        recipient=f"user{number}@example.net",
        tags={"shop": "north"},
        source="ses",
        detail="250 2.0.0 Ok",
        permanent=False,
        already_suppressed=False,
        automated=False,
        raw='{"eventType": "Delivery"}',
    )
    return replace(told, **changes)  # type: ignore[arg-type]


class EventPluginContract:
    """What every event plugin owes to the log.

    Fixture: `plugin`, the module or object that has the hook `mailer_event`. Override `prepare` if
    something has to be on the shelf before.
    """

    @pytest.fixture
    def prepare(self) -> Callable[[Shelf], object]:
        return lambda shelf: None

    @pytest.fixture
    def hook(self, plugin: object) -> HookCaller:
        return hook_of(plugin, "mailer_event")

    @pytest.fixture
    def shelf(self, tmp_path: Path, prepare: Callable[[Shelf], object]) -> Iterator[Shelf]:
        with a_shelf(tmp_path) as shelf:
            prepare(shelf)
            yield shelf

    def test_it_takes_events_of_every_type(self, hook: HookCaller, shelf: Shelf) -> None:
        for number, type_ in enumerate(EventType):
            hook(event=event(number, type=type_), shelf=shelf)

    def test_it_takes_an_event_of_which_little_is_known(
        self, hook: HookCaller, shelf: Shelf
    ) -> None:
        bare = event(mail_id=None, batch_id=None, topic_id=None, recipient=None, tags={}, raw="")
        for number, type_ in enumerate(EventType):
            hook(event=replace(bare, id=f"{number:020d}", type=type_, detail=""), shelf=shelf)

    def test_it_takes_whatever_the_texts_hold(self, hook: HookCaller, shelf: Shelf) -> None:
        odd = event(topic_id=ODD, recipient=ODD, tags={ODD: ODD}, source=ODD, detail=ODD)
        hook(event=replace(odd, raw=ODD * 5_000), shelf=shelf)

    def test_it_can_be_told_the_same_event_again(self, hook: HookCaller, shelf: Shelf) -> None:
        """At least once is what the log promises, not once."""
        for _ in range(3):
            hook(event=event(), shelf=shelf)

    def test_it_begins_anew_where_its_shelf_was_undone(
        self, hook: HookCaller, tmp_path: Path, prepare: Callable[[Shelf], object]
    ) -> None:
        """After a crash the shelf is as it was some events ago, and those are told again."""
        for directory in (tmp_path / "first", tmp_path / "second"):
            directory.mkdir()
            with a_shelf(directory) as shelf:
                prepare(shelf)
                for number in range(20):
                    hook(event=event(number), shelf=shelf)

    def test_it_answers_soon(self, hook: HookCaller, shelf: Shelf) -> None:
        for number in range(20):
            began_s = time.monotonic()
            hook(event=event(number), shelf=shelf)
            took_s = time.monotonic() - began_s
            assert took_s < LONGEST_CALL_S, f"one call took {took_s:.1f} s"

    def test_its_memory_stays_flat(self, hook: HookCaller, shelf: Shelf) -> None:
        """Its process lives as long as mailer does."""
        for number in range(200):
            hook(event=event(number), shelf=shelf)
        tracemalloc.start()
        try:
            for number in range(200, 1200):
                hook(event=event(number), shelf=shelf)
            grown, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert grown < FLAT_BYTES, f"1,000 events took {grown} bytes that did not come back"


@contextmanager
def a_shelf(directory: Path) -> Iterator[Shelf]:
    """A shelf in a database of the test's, which can be changed."""
    database = directory / "mailer.db"
    migrate(database)
    store = Store(database, rules_of(Settings()))
    try:
        with store.write():
            yield store.shelf("under-test")
    finally:
        store.close()
