"""What plugins keep: ordered, each its own, as durable as mail; and drafts of changes to it."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from mailer.hookspecs import Shelf
from mailer.store.shelves import MAX_KEY, MAX_VALUE_BYTES, Draft
from tests.store.world import World

KEYS = ["a", "a/", "a/1", "a/10", "a/2", "a0", "b", "Ä", "é/1", "😀", "z z"]


def stored(world: World) -> Shelf:
    return world.store.shelf("one")


def draft(world: World) -> Shelf:
    return Draft(world.store.shelf("one"))


def draft_of_a_draft(world: World) -> Shelf:
    return Draft(Draft(world.store.shelf("one")))


Make = Callable[[World], Shelf]
every_shelf = pytest.mark.parametrize("make", [stored, draft, draft_of_a_draft])


def expected(
    kept: dict[str, bytes], prefix: str, after: str, before: str | None, limit: int
) -> list[tuple[str, bytes]]:
    """What `read` promises, said in another way."""
    keys = [k for k in sorted(kept) if k.startswith(prefix) and k > after]
    return [(k, kept[k]) for k in keys if before is None or k < before][:limit]


@every_shelf
def test_it_does_what_a_sorted_dict_does(world: World, make: Make) -> None:
    chance = random.Random(6)
    kept: dict[str, bytes] = {}
    with world.store.write():
        for key in KEYS[::2]:  # what a draft finds
            kept[key] = b"before"
            world.store.shelf("one").put(key, kept[key])
        shelf = make(world)
        for turn in range(500):
            key = chance.choice(KEYS)
            if chance.random() < 0.6:
                kept[key] = b"%d" % turn
                shelf.put(key, kept[key])
            else:
                kept.pop(key, None)
                shelf.remove(key)
            assert shelf.get(key) == kept.get(key)
            prefix, after = chance.choice(["", "a", "a/", "é", "x"]), chance.choice(["", *KEYS])
            before, limit = chance.choice([None, *KEYS]), chance.choice([1, 3, 100])
            found = shelf.read(prefix, after=after, before=before, limit=limit)
            assert found == expected(kept, prefix, after, before, limit)


@every_shelf
@pytest.mark.parametrize("key", ["", "x" * (MAX_KEY + 1), "a\0", "a\n", "\ud800", "\U0010ffff"])
def test_keys_that_can_not_be_kept_are_refused(world: World, make: Make, key: str) -> None:
    with world.store.write():
        shelf = make(world)
        for use in (shelf.get, shelf.remove, lambda key: shelf.put(key, b"")):
            with pytest.raises(ValueError, match="a key of a shelf"):
                use(key)


@every_shelf
@pytest.mark.parametrize("value", [bytes(MAX_VALUE_BYTES + 1), "text", None, 5])
def test_values_that_can_not_be_kept_are_refused(world: World, make: Make, value: bytes) -> None:
    with world.store.write():
        with pytest.raises(ValueError, match="a value on a shelf"):
            make(world).put("a", value)
        make(world).put("a", bytes(MAX_VALUE_BYTES))


def test_each_plugin_has_its_own(world: World) -> None:
    with world.store.write():
        world.store.shelf("one").put("a", b"1")
        world.store.shelf("two").put("a", b"2")
        world.store.shelf("one").remove("a")
    assert world.store.shelf("one").read() == []
    assert world.twin().shelf("two").read() == [("a", b"2")]


def test_what_is_undone_with_its_transaction_was_never_kept(world: World) -> None:
    with pytest.raises(RuntimeError), world.store.write():  # noqa: PT012
        world.store.shelf("one").put("a", b"1")
        raise RuntimeError
    assert world.store.shelf("one").get("a") is None


def test_a_draft_is_put_on_the_shelf_whole(world: World) -> None:
    shelf = world.store.shelf("one")
    with world.store.write():
        shelf.put("old", b"1")
        shelf.put("gone", b"1")
    drafted = Draft(shelf)
    drafted.put("old", b"2")
    drafted.put("new", b"2")
    drafted.remove("gone")
    assert shelf.read() == [("gone", b"1"), ("old", b"1")]
    with world.store.write():
        drafted.put_on(shelf)
    assert shelf.read() == drafted.read() == [("new", b"2"), ("old", b"2")]


def test_a_commit_of_another_is_seen_as_a_new_version_and_one_of_ones_own_is_not(
    world: World,
) -> None:
    other = world.twin()
    before = world.store.version()
    with world.store.write():
        world.store.shelf("one").put("a", b"1")
    assert world.store.version() == before
    with other.write():
        other.shelf("one").put("a", b"2")
    assert world.store.version() != before
