"""The event log has one order, in which nothing appears behind a reader's back."""

from __future__ import annotations

import random
import threading
from contextlib import closing

import pytest

from mailer.hookspecs import Event
from mailer.store import Store
from mailer.store.log import event_id, place_of
from mailer.vocabulary import EventType
from tests.counts import often
from tests.store.world import RULES, World, event

WRITERS = 4


def write(world: World, number: int, transactions: int) -> None:
    """Append again and again, keeping some transactions open for a while."""
    chance = random.Random(number)
    with closing(Store(world.path, RULES)) as store:
        for n in range(transactions):
            with store.write():
                for part in range(chance.randrange(1, 4)):
                    at_ms = chance.randrange(10**6)
                    told = event(EventType.OTHER, at_ms=at_ms, detail=f"{number} {n} {part}")
                    store.events.learn([told], now_ms=0)
                    threading.Event().wait(chance.random() / 1000)


def follow(world: World, writers: list[threading.Thread]) -> list[Event]:
    """What a reader sees who goes on from the end of the page before."""
    seen: list[Event] = []
    place = 0
    more = True
    while more:
        more = any(writer.is_alive() for writer in writers)
        while (page := world.store.log.page(place, limit=7)).events:
            seen += page.events
            place = page.end
    return seen


def test_who_reads_behind_the_last_event_misses_none_of_many_writers(world: World) -> None:
    transactions = often(1_000)
    writers = [
        threading.Thread(target=write, args=(world, number, transactions))
        for number in range(WRITERS)
    ]
    for writer in writers:
        writer.start()
    seen = follow(world, writers)
    whole = world.store.log.page(0, limit=10**6).events
    assert len(whole) > WRITERS * transactions
    assert [e.id for e in seen] == [e.id for e in whole]
    for number in range(WRITERS):
        own = [e.detail for e in seen if e.detail.startswith(f"{number} ")]
        assert own == sorted(own, key=lambda detail: [int(part) for part in detail.split()])
    # The control: a reader who goes by the time of the last event misses many.
    by_time = [
        e for n, e in enumerate(seen) if e.at_ms > max((s.at_ms for s in seen[:n]), default=-1)
    ]
    assert len(by_time) < len(whole)


def test_an_event_that_is_matched_later_comes_behind_who_has_read_on(world: World) -> None:
    mail = world.accept_and_claim()
    world.learn(event(EventType.OPEN, provider_id="p-1"), event(EventType.OTHER))
    page = world.store.log.page(0, limit=100)
    assert [e.type for e in page.events] == ["accepted", "other"]
    world.record(mail, provider_id="p-1")
    page = world.store.log.page(page.end, limit=100)
    assert [(e.type, e.mail_id) for e in page.events] == [
        ("sent", mail.request_id),
        ("open", mail.request_id),
    ]
    told_again = event(EventType.OPEN, provider_id="p-1", source_event_id="once")
    assert world.learn(told_again, told_again) == 1


def test_a_batch_for_one_topic_is_an_event_of_that_topic(world: World) -> None:
    world.accept("a@x.org", topic_id="news")
    found = world.store.log.page(0, limit=10, topic_id="news")
    assert [e.type for e in found.events] == ["accepted"]


@pytest.mark.parametrize("wrong", ["", "x", "-1", "1-", "1-X", "1.5", "٣", "1" * 19, " 1"])
def test_what_is_no_id_is_no_place(wrong: str) -> None:
    with pytest.raises(ValueError, match="not the id of an event"):
        place_of(wrong)


def test_an_id_names_its_place() -> None:
    assert place_of(event_id(4711, 1_700_000_000_000)) == 4711
