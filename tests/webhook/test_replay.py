"""Replays: what is in the event log is told again, to the one endpoint that asked for it."""

from __future__ import annotations

import pytest
from mailer_webhook import replay

from mailer.hookspecs import ProviderEvent
from mailer.vocabulary import EventType
from tests.store.world import World
from tests.webhook import receiver as r
from tests.webhook.desk import Desk
from tests.webhook.receiver import Receiver

HOUR_MS = 3_600_000


def learn(world: World, mails: int, **fields: object) -> None:
    """A delivery of each of so many new mails, now."""
    ids = world.accept(*(f"reader{n}@example.com" for n in range(mails)))
    with world.store.write():
        world.store.events.learn(
            [
                ProviderEvent(EventType.DELIVERY, world.now_ms, "ses", mail, request_id=mail)
                for mail in ids
            ],
            now_ms=world.now_ms,
        )


def ask(desk: Desk, endpoint_id: str, since_ms: int) -> None:
    with desk.access.write():
        replay.ask(desk.access.shelf, endpoint_id, since_ms=since_ms, now_ms=desk.world.now_ms)


def test_what_happened_since_then_is_told_again(
    desk: Desk, receiver: Receiver, world: World
) -> None:
    endpoint = desk.add(receiver.url, types=("delivery",))
    desk.add(f"{receiver.url}-other")
    learn(world, 50)
    world.now_ms += HOUR_MS
    since_ms = world.now_ms
    learn(world, 700)
    world.now_ms += HOUR_MS
    ask(desk, endpoint, since_ms)
    world.now_ms += 1
    learn(world, 20)
    desk.settle()
    told = [delivery.webhook_id for delivery in receiver.deliveries]
    logged = [
        event.id
        for event in world.store.log.page(0, limit=10_000).events
        if event.type == "delivery" and since_ms <= event.at_ms < since_ms + HOUR_MS
    ]
    assert len(logged) == 700
    assert sorted(told) == sorted(logged)
    assert {delivery.path for delivery in receiver.deliveries} == {"/hook"}
    assert desk.access.shelf.read("replay/") == []


def test_it_goes_on_after_a_kill_and_misses_nothing(
    desk: Desk, receiver: Receiver, world: World
) -> None:
    endpoint = desk.add(receiver.url, types=("delivery",))
    learn(world, 500)
    ask(desk, endpoint, 0)
    for _ in range(2):
        desk.deliverer.step()
        desk.start_anew()
    desk.settle()
    assert len({delivery.webhook_id for delivery in receiver.deliveries}) == 500


def test_little_of_it_is_on_the_shelf_at_a_time(
    desk: Desk, receiver: Receiver, world: World
) -> None:
    endpoint = desk.add(receiver.url)
    receiver.behaviour = r.WRONG["500"]
    learn(world, 2000)
    ask(desk, endpoint, 0)
    desk.pass_until(world.now_ms + HOUR_MS)
    assert desk.waiting("new") < 2 * replay.PAGE


@pytest.mark.parametrize("mails", [1, 199, 200, 201])
def test_at_the_edges_of_a_page(desk: Desk, receiver: Receiver, world: World, mails: int) -> None:
    endpoint = desk.add(receiver.url, batch_size=100, types=("delivery",))
    learn(world, mails)
    ask(desk, endpoint, 0)
    desk.settle()
    assert desk.endpoints.get(endpoint).delivered == mails
