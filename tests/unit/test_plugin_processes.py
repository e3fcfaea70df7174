"""Plugins have the processes they want, but none while they have nothing to do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from mailer import plugins
from mailer.hookspecs import Event, Shelf, Worker, hookimpl
from mailer.plugin_processes import PluginProcesses
from mailer.settings import Settings, load
from tests.store.world import World, new_world


class Hook:
    """A plugin that takes events and has a worker."""

    @hookimpl
    def mailer_event(self, event: Event) -> None: ...

    @hookimpl
    def mailer_workers(self, settings: Settings) -> Mapping[str, Worker]:
        return {"work": lambda access: None}


class Sleepy(Hook):
    """Idle while its shelf is empty, unless it is told to raise."""

    raises = False
    asked = 0

    @hookimpl
    def mailer_idle(self, shelf: Shelf) -> bool:
        self.asked += 1
        if self.raises:
            raise RuntimeError("a secret")
        return not shelf.read()


@pytest.fixture
def world(tmp_path: Path, migrated: Path) -> Iterator[World]:
    made = new_world(tmp_path, migrated)
    yield made
    made.close()


def processes(world: World, plugin: Hook) -> PluginProcesses:
    """As a supervisor makes them at its start, with no other plugin."""
    manager = plugins.load({"sleepy": plugin})
    for name, other in manager.list_name_plugin():
        if other is not plugin:
            manager.unregister(name=name)
    with world.store.write():
        world.store.cursors.register(plugins.event_hooks(manager).keys())
    made = PluginProcesses(world.store, manager, load({}))
    made.ask()
    return made


BOTH = {"worker work": ("worker", "work"), "notifier sleepy": ("notifier", "sleepy")}


def put(world: World) -> None:
    with world.store.write():
        world.store.shelf("sleepy").put("a", b"")


def test_it_has_none_while_it_is_idle(world: World) -> None:
    made = processes(world, Sleepy())
    assert made.wanted() == {}
    put(world)
    assert made.wanted() == BOTH
    made.ask()
    assert made.wanted() == BOTH
    with world.store.write():
        world.store.shelf("sleepy").remove("a")
    made.ask()
    assert made.wanted() == {}


def test_one_that_does_not_say_is_never_idle(world: World) -> None:
    processes(world, Sleepy())
    assert processes(world, Hook()).wanted() == BOTH
    assert world.store.idle.all() == set()


def test_one_that_raises_is_not_idle_and_not_asked_again(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    plugin = Sleepy()
    made = processes(world, plugin)
    plugin.raises, plugin.asked = True, 0
    for _ in range(3):
        made.ask()
    assert made.wanted() == BOTH
    assert plugin.asked == 1
    assert "sleepy" in caplog.text
    assert "a secret" not in caplog.text
