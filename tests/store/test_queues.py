"""Queues: mail that waits for one transport, taken by another where a claim says so."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from mailer.vocabulary import EventType, Lane, OutcomeKind, State
from tests.store.world import World, event, message, people


def depths(world: World) -> dict[str, int]:
    """Unfinished mail by the transport it is to take, unless that is out of service."""
    mails: Counter[str] = Counter()
    for depth in world.store.status.depths():
        mails[depth.transport] += depth.mails
    return dict(+mails)


def test_a_claim_takes_from_several_queues_what_is_due_first(world: World) -> None:
    queues = ("post", "post@example.org", "other,post")
    ids = []
    for number in range(6):
        ids += world.accept("ann@example.org", transport=queues[number % 3])
        world.pass_s(1)
    world.accept("ann@example.org", transport="other")
    urgent = world.accept("ann@example.org", transport="other,post", lane=Lane.INTERACTIVE)
    assert world.claim_ids(queues=queues, calls=5) == urgent + ids[:4]
    assert world.claim_ids(queues=queues) == ids[4:]
    assert depths(world) == {"post": 4, "other": 4}


@pytest.mark.parametrize("kind", [OutcomeKind.ACCEPTED, OutcomeKind.REJECTED, OutcomeKind.UNKNOWN])
def test_it_is_on_record_which_transport_took_it(world: World, kind: OutcomeKind) -> None:
    (mail,) = world.accept("ann@example.org", transport="other,post@example.org")
    assert world.mail(mail).transport == "other"
    world.record(world.claim(transport="post", queues=("other,post@example.org",)), kind)
    seen = world.mail(mail)
    (attempt,) = world.store.mails.attempts(seen.id)
    assert (seen.transport, attempt.transport) == ("post", "post")
    assert [event.source for event in world.store.mails.events(seen.id)] == ["post"]
    minute = world.now_ms // 60_000
    sent = int(kind is OutcomeKind.ACCEPTED)
    assert world.store.transports.sent_since(minute, "post") == sent
    assert world.store.transports.sent_since(minute, "other") == 0


@pytest.mark.parametrize("ends", ["without an answer", "with its sender"])
@pytest.mark.parametrize("queue", ["other,post", "other,post@example.org"])
def test_no_other_transport_takes_what_one_may_have_taken(
    world: World, ends: str, queue: str
) -> None:
    sender = world.new_sender()
    mails = world.accept(*people(2), transport=queue)
    claimed = world.claim(sender=sender, transport="post", queues=(queue,))
    if ends == "with its sender":
        world.rescue(sender)
    else:
        world.record(claimed, OutcomeKind.UNKNOWN)
    assert world.states(mails) == [State.UNCERTAIN] * 2
    world.pass_s(2)
    world.settle()
    assert world.store.queue.names() == [queue.replace("other,", "")]
    assert depths(world) == {"post": 2}
    assert [world.mail(mail).transport for mail in mails] == ["post", "post"]


@pytest.mark.parametrize("kind", [OutcomeKind.DEFERRED, OutcomeKind.THROTTLED])
def test_what_was_certainly_not_taken_may_go_by_another(world: World, kind: OutcomeKind) -> None:
    (mail,) = world.accept("ann@example.org", transport="other,post")
    world.record(world.claim(transport="other", queues=("other,post",)), kind)
    world.pass_s(60)
    world.record(world.claim(queues=("other,post",)))
    seen = world.mail(mail)
    assert (seen.state, seen.transport) == (State.SENT, "post")
    attempts = [attempt.transport for attempt in world.store.mails.attempts(seen.id)]
    assert attempts[-1] == "post"
    assert attempts[:-1] == ["other"] * (kind is OutcomeKind.DEFERRED)


def test_what_a_provider_tells_finds_its_mail_whoever_took_it(world: World) -> None:
    mails = world.accept(*people(3), transport="other,post", topic_id="news/1")
    taken = world.claim(queues=("other,post",))
    world.record(taken[0], provider_id="p-0")
    world.record(taken[1:], OutcomeKind.UNKNOWN)
    world.learn(
        event(EventType.COMPLAINT, provider_id="p-0", source_event_id="1"),
        event(EventType.DELIVERY, request_id=mails[1], source_event_id="2"),
    )
    assert world.states(mails) == [State.COMPLAINED, State.DELIVERED, State.UNCERTAIN]
    assert depths(world) == {"post": 1}
    minute = world.now_ms // 60_000
    assert world.store.transports.sent_since(minute, "post") == 2
    world.accept("user0@example.org", transport="other", topic_id="news/2")
    assert world.claim(transport="other") == []
    assert world.counters("news/2") == {"total": 1, "suppressed": 1}


def test_a_batch_may_hold_mail_of_several_transports(world: World) -> None:
    ways = ("other,post", None, "third")
    messages = (replace(message(*people(2)), transport=way) for way in ways)
    batch = world.batch(*messages, transport="other")
    with world.store.write():
        world.store.batches.accept(batch, max_queued=10**9)
    assert sorted(world.store.queue.names()) == ["other", "other,post", "third"]
    world.record(world.claim(transport="post", queues=("other,post",)))
    seen = world.store.batches.get(batch.batch_id)
    assert seen is not None
    assert seen.transports == ["other", "post", "third"]
    assert depths(world) == {"other": 2, "third": 2}


def test_mail_not_handed_over_waits_where_it_waited(world: World) -> None:
    (mail,) = world.accept("ann@example.org", transport="other,post")
    claimed = world.claim(queues=("other,post",))
    with world.store.write():
        world.store.outcomes.give_back([mail.id for mail in claimed], now_ms=world.now_ms)
    assert world.state(mail) is State.PENDING
    assert world.mail(mail).transport == "other"
    assert depths(world) == {"other": 1}
    assert world.claim_ids(transport="other", queues=("other,post",)) == [mail]
