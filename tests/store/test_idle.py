"""A plugin with nothing to do holds nothing up, and misses nothing from the instant it has."""

from __future__ import annotations

import pytest

from mailer.vocabulary import EventType
from tests.store.world import World, event


@pytest.fixture
def resting(world: World) -> World:
    """A world whose only plugin rests."""
    with world.store.write():
        world.store.cursors.register(["hook"])
        world.store.idle.rest("hook")
    return world


def happen(world: World, number: int) -> None:
    told = event(EventType.OTHER, source_event_id=f"{number}", detail=f"{number}")
    assert world.learn(told) == 1


def untold(world: World) -> list[str]:
    """What the plugin is to be told next."""
    page = world.store.log.page(world.store.cursors.get("hook").event, limit=100)
    return [event.detail for event in page.events]


def put(world: World, key: str) -> None:
    with world.store.write():
        world.store.shelf("hook").put(key, b"")


def test_it_holds_no_event_back(resting: World) -> None:
    happen(resting, 1)
    assert resting.store.cursors.held(1) is None
    with resting.store.write():
        resting.store.idle.wake("hook")
    happen(resting, 2)
    assert resting.store.cursors.held(1) is not None


def test_from_the_commit_that_gives_it_something_to_do_it_is_told_of_all(resting: World) -> None:
    happen(resting, 1)
    put(resting, "first")
    assert resting.store.idle.all() == set()
    happen(resting, 2)
    put(resting, "second")
    happen(resting, 3)
    assert untold(resting) == ["2", "3"]


def test_what_wakes_is_the_commit_not_that_it_is_noticed(resting: World) -> None:
    """The control: woken when somebody looks, it would miss what happened until then."""
    happen(resting, 2)
    with resting.store.write():
        resting.store.idle.wake("hook")
    assert untold(resting) == []


def test_what_others_put_and_what_it_reads_or_removes_wakes_nobody(resting: World) -> None:
    with resting.store.write():
        resting.store.shelf("other").put("a", b"")
        resting.store.shelf("hook").remove("a")
    assert resting.store.shelf("hook").read() == []
    assert resting.store.idle.all() == {"hook"}
    assert not resting.store.cursors.get("hook").live


def test_it_rests_on_after_a_restart(resting: World) -> None:
    with resting.store.write():
        resting.store.cursors.register(["hook"])
    assert resting.store.idle.all() == {"hook"}
