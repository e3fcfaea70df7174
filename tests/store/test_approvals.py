"""What providers ask for is kept for the operator: little of it, since anybody can make us."""

from __future__ import annotations

from mailer.store.approvals import EVERY_MS, KEPT, SHOWN_MS
from tests.store.world import World


def ask(world: World, value: str) -> None:
    with world.store.write():
        world.store.approvals.ask("SNS_TOPIC_ARNS", value, world.now_ms)


def values(world: World) -> list[str]:
    return [asked.value for asked in world.store.approvals.all(world.now_ms)]


def test_the_newest_are_kept_each_once(world: World) -> None:
    for number in (*range(KEPT + 3), KEPT):
        ask(world, f"topic {number}")
        world.pass_s(EVERY_MS / 1000)
    assert values(world) == ["topic 5", "topic 7", "topic 6", "topic 4", "topic 3"]
    world.pass_s(SHOWN_MS / 1000)
    assert values(world) == []


def test_one_is_written_in_ten_seconds(world: World) -> None:
    for number in range(100):
        ask(world, f"topic {number}")
        world.now_ms += 200
    assert values(world) == ["topic 50", "topic 0"]
    assert world.store.approvals.due(world.now_ms)


def test_a_clock_that_was_set_back_does_not_silence_them(world: World) -> None:
    ask(world, "one")
    world.now_ms -= 3_600_000
    assert world.store.approvals.due(world.now_ms)
