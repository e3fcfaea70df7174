"""A world with an event plugin that hears, counts, and fails as it is told."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field

from mailer import plugins
from mailer.hookspecs import Event, Shelf, hookimpl
from mailer.in_hand import InHand
from mailer.notifier import Notifier
from mailer.vocabulary import EventType
from tests.store.world import World, event

TRIES = 3


@dataclass(eq=False)
class Plugin:
    """Hears, keeps a count on its shelf, and fails as it is told."""

    does: Callable[[Event], None] = lambda event: None
    heard: list[str] = field(default_factory=list)

    @hookimpl
    def mailer_event(self, event: Event, shelf: Shelf) -> object:
        self.heard.append(event.id)
        shelf.put("count", b"%d" % (int(shelf.get("count") or 0) + 1))
        self.does(event)
        return object()


@dataclass
class Town:
    """A world with an event plugin."""

    world: World
    plugin: Plugin = field(default_factory=Plugin)

    def __post_init__(self) -> None:
        self.name = "plugin"
        self.hook = plugins.event_hooks(plugins.load({self.name: self.plugin}))[self.name]
        with self.world.store.write():
            self.world.store.cursors.register([self.name])
        self.notifier = self.new_process()

    def new_process(self) -> Notifier:
        self.notifier = Notifier(
            self.world.twin(),
            self.name,
            self.hook,
            self,
            InHand(self.world.path, self.name),
            tries=TRIES,
            time_limit=nullcontext,
            asked_to_stop=lambda: False,
        )
        return self.notifier

    def restart(self) -> None:
        """A new process, and the wait after what ended the last."""
        self.new_process()
        self.go_on()
        self.world.pass_s(70)

    # The clock.
    boot_id = ""

    def wall_ms(self) -> int:
        return self.world.now_ms

    def mono_us(self) -> int:
        return self.world.now_us

    def happen(self, count: int = 1) -> list[str]:
        """So many events; their ids."""
        end = self.world.store.log.end()
        for n in range(count):
            self.world.learn(event(EventType.OTHER, at_ms=n))
        return [told.id for told in self.world.store.log.page(end, limit=count).events]

    def go_on(self) -> None:
        """Until there is nothing to do now."""
        while self.notifier.step() == 0:
            pass

    def go_on_long(self) -> None:
        """With waits."""
        for _ in range(20):
            self.go_on()
            self.world.pass_s(70)

    @property
    def count(self) -> int:
        return int(self.world.store.shelf(self.name).get("count") or 0)

    @property
    def dead(self) -> list[tuple[str, int, str]]:
        log = self.world.store.log
        found = self.world.store.cursors.dead_letters(limit=100)
        return [
            (told.id, letter.failure.times, letter.failure.detail)
            for letter in found
            if (told := log.get(letter.failure.event))
        ]
