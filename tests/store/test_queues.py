"""Queues: mail that waits for one transport, taken by another where a claim says so."""

from __future__ import annotations

from collections import Counter

import pytest

from mailer.vocabulary import Lane, OutcomeKind, State
from tests.store.world import World, people


def depths(world: World) -> dict[str, int]:
    """Unfinished mail by the queue it is counted in."""
    mails: Counter[str] = Counter()
    for depth in world.store.status.depths():
        mails[depth.queue] += depth.mails
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
    assert depths(world) == {"post": 2, "post@example.org": 2, "other,post": 3, "other": 1}


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


def test_mail_of_one_queue_that_must_go_alone_goes_alone(world: World) -> None:
    sender = world.new_sender()
    world.accept(*people(2), transport="other,post")
    world.claim(sender=sender, queues=("other,post",))
    world.rescue(sender)
    world.pass_s(2)
    world.settle()
    assert world.store.queue.has_alone("other,post")
    claimed = [len(world.claim(queues=("post", "other,post"), alone=True)) for _ in range(3)]
    assert claimed == [1, 1, 0]


def test_mail_not_handed_over_waits_where_it_waited(world: World) -> None:
    (mail,) = world.accept("ann@example.org", transport="other,post")
    claimed = world.claim(queues=("other,post",))
    with world.store.write():
        world.store.outcomes.give_back([mail.id for mail in claimed], now_ms=world.now_ms)
    assert world.state(mail) is State.PENDING
    assert world.mail(mail).transport == "other"
    assert depths(world) == {"other,post": 1}
    assert world.claim_ids(transport="other", queues=("other,post",)) == [mail]
