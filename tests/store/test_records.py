"""What a plugin reads of the event log: all of it, once, page by page."""

from __future__ import annotations

import pytest

from mailer.hookspecs import ProviderEvent
from mailer.records import OwnRecords
from mailer.vocabulary import EventType
from tests.store.world import HandClock, World


@pytest.mark.parametrize("limit", [1, 2, 7, 100])
def test_events_page_by_page(world: World, limit: int) -> None:
    """Events of mails that are not known yet are no part of the log, however many stand in it."""
    records = OwnRecords(world.store, "one", HandClock(world))
    assert records.events() == []
    mails = world.accept(*(f"a{n}@example.com" for n in range(5)))
    parked = [
        ProviderEvent(EventType.DELIVERY, 0, "ses", f"parked-{n}", provider_id=f"unknown-{n}")
        for n in range(20)
    ]
    known = [ProviderEvent(EventType.OPEN, 0, "ses", mail, request_id=mail) for mail in mails]
    records.learn([*parked, *known])
    told: list[str] = []
    while page := records.events(after=told[-1] if told else "", limit=limit):
        assert len(page) <= limit
        told += [event.id for event in page]
    assert told == [event.id for event in world.store.log.page(0, limit=1000).events]
    assert len(told) == len(set(told)) == 6
