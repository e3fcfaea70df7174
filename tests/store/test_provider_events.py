"""What a provider tells: before, after, out of order, twice, of mail that is not known."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import pytest

from mailer.vocabulary import EventType, OutcomeKind, State
from tests.store.world import World, event, people

E = EventType


def sent(world: World, provider_id: str = "p-1", topic_id: str | None = "news/a") -> str:
    """A mail the provider has taken; its request id."""
    (request_id,) = world.accept(f"{provider_id}@example.org", topic_id=topic_id)
    world.record(world.claim(), provider_id=provider_id)
    return request_id


def suppressions(world: World) -> list[tuple[str, str, str]]:
    found = world.store.suppressions.list(email=None, after=("", ""), limit=10)
    return [(s.email, s.scope, s.reason) for s in found]


@pytest.mark.parametrize(
    ("told", "state"),
    [
        ([E.DELIVERY], State.DELIVERED),
        ([E.BOUNCE], State.BOUNCED),
        ([E.COMPLAINT], State.COMPLAINED),
        ([E.DELIVERY, E.COMPLAINT], State.COMPLAINED),
        ([E.DELIVERY, E.BOUNCE], State.BOUNCED),
        ([E.DELAY, E.DELIVERY], State.DELIVERED),
        ([E.OPEN, E.CLICK, E.DELIVERY], State.DELIVERED),
        ([E.SENT, E.REJECT], State.FAILED),
        ([E.SENT, E.DELAY, E.REJECT], State.FAILED),
    ],
)
def test_any_order_ends_in_the_same_state(
    world: World, told: list[EventType], state: State
) -> None:
    orders = list(permutations(told))
    for number, order in enumerate(orders):
        request_id = sent(world, f"p-{number}", topic_id="news")
        for kind in order:
            world.learn(event(kind, provider_id=f"p-{number}", permanent=True))
        assert world.state(request_id) is state
    assert world.counters("news")[state] == len(orders)


def test_a_mail_that_was_taken_and_then_rejected_has_failed(world: World) -> None:
    """It never arrives, whatever the provider said at first; a retry sends it once more."""
    request_id = sent(world, topic_id="news")
    world.learn(event(E.REJECT, provider_id="p-1", detail="Bad content"))
    mail = world.mail(request_id)
    assert (mail.state, mail.detail) == (
        State.FAILED, "the provider took it, and rejected it then: Bad content",
    )  # fmt: skip
    assert world.counters("news") == {"total": 1, "failed": 1}
    assert world.said(request_id) == ["sent", "reject"]

    with world.store.write():
        world.store.topics.retry("news", after=0, now_ms=world.now_ms)
    world.record(world.claim(), OutcomeKind.UNKNOWN)
    world.learn(event(E.SENT, request_id=request_id, provider_id="p-2"))
    assert world.state(request_id) is State.SENT


def test_a_rejection_that_comes_before_the_record_is_applied_then(world: World) -> None:
    mail = world.accept_and_claim()
    world.learn(event(E.REJECT, provider_id="p-9"), event(E.SENT, provider_id="p-9"))
    world.record(mail, provider_id="p-9")
    assert world.state(mail.request_id) is State.FAILED


def test_an_event_told_twice_counts_once(world: World) -> None:
    sent(world)
    told = event(E.DELIVERY, provider_id="p-1", source_event_id="sns-1")
    assert world.learn(told, told) == 1
    assert world.learn(told) == 0
    assert world.counters("news/a")["deliveries"] == 1


def test_an_id_is_the_sources_own(world: World) -> None:
    sent(world)
    assert (
        world.learn(
            event(E.OPEN, provider_id="p-1", source="one", source_event_id="1"),
            event(E.OPEN, provider_id="p-1", source="two", source_event_id="1"),
        )
        == 2
    )


def test_our_own_id_finds_a_mail_first(world: World) -> None:
    one, two = sent(world, "p-1"), sent(world, "p-2")
    world.learn(event(E.DELIVERY, request_id=one, provider_id="p-2"))
    assert world.states([one, two]) == [State.DELIVERED, State.SENT]


def test_an_event_that_comes_before_the_record_is_parked_and_applied_then(world: World) -> None:
    mail = world.accept_and_claim(topic_id="news/a")
    bounce = event(E.BOUNCE, provider_id="p-9", permanent=True, source_event_id="1")
    assert world.learn(bounce, event(E.OPEN, provider_id="p-9")) == 2
    assert world.state(mail.request_id) is State.SENDING
    world.record(mail, provider_id="p-9")
    assert world.state(mail.request_id) is State.BOUNCED
    assert suppressions(world) == [("ann@example.org", "", "bounce")]
    assert world.said(mail.request_id) == ["sent", "bounce", "open"]
    assert world.learn(bounce) == 0


@pytest.mark.parametrize("kind", [E.BOUNCE, E.COMPLAINT])
def test_what_the_provider_s_own_list_refused_is_told_apart(world: World, kind: EventType) -> None:
    refused = event(kind, provider_id="p-1", permanent=kind is E.BOUNCE, already_suppressed=True)
    sent(world)
    world.learn(refused)
    assert suppressions(world) == [("p-1@example.org", "", "provider")]

    mail = world.accept_and_claim()
    world.learn(replace(refused, provider_id="p-2", source_event_id="parked"))
    world.record(mail, provider_id="p-2")
    assert suppressions(world)[0] == ("ann@example.org", "", "provider")


def test_events_of_mail_that_is_never_known_harm_nothing(world: World) -> None:
    assert world.learn(event(E.BOUNCE, provider_id="p-0", permanent=True)) == 1
    assert world.learn(event(E.BOUNCE, request_id="ffff-0", permanent=True)) == 1
    assert world.learn(event(E.BOUNCE, request_id="'; --", permanent=True)) == 1
    assert world.learn(event(E.BOUNCE, permanent=True)) == 1
    assert suppressions(world) == []


@pytest.mark.parametrize("kind", [E.DELIVERY, E.BOUNCE, E.COMPLAINT, E.DELAY, E.REJECT, E.SENT])
def test_what_only_a_taken_mail_can_cause_settles_an_uncertain_one(
    world: World, kind: EventType
) -> None:
    """Also a bounce for now and a delay: the provider has the mail, a second copy is too much."""
    mail = world.accept_and_claim()
    world.record(mail, OutcomeKind.UNKNOWN)
    world.learn(event(kind, request_id=mail.request_id))
    assert world.state(mail.request_id) not in {State.UNCERTAIN, State.PENDING}
    world.pass_s(3600)
    assert world.settle() == 0
    assert world.claim() == []


@pytest.mark.parametrize("kind", [E.OPEN, E.CLICK])
def test_a_scanner_that_looks_into_a_mail_proves_nothing(world: World, kind: EventType) -> None:
    """A server may fetch what a mail links to, and then refuse the mail."""
    mail = world.accept_and_claim()
    world.record(mail, OutcomeKind.UNKNOWN)
    world.learn(event(kind, request_id=mail.request_id))
    assert world.state(mail.request_id) is State.UNCERTAIN


def test_evidence_stops_a_resend_that_was_decided(world: World) -> None:
    mail = world.accept_and_claim()
    world.record(mail, OutcomeKind.UNKNOWN)
    world.pass_s(10)
    world.settle()
    world.learn(event(E.DELIVERY, request_id=mail.request_id))
    assert world.claim() == []
    assert world.state(mail.request_id) is State.DELIVERED


def test_evidence_corrects_a_mail_that_was_given_up(world: World) -> None:
    mail = world.accept_and_claim(topic_id="t")
    world.record(mail, OutcomeKind.REJECTED)
    world.learn(event(E.DELIVERY, request_id=mail.request_id))
    assert world.counters("t") == {"total": 1, "delivered": 1, "deliveries": 1}


def test_evidence_while_the_second_copy_is_in_flight(world: World) -> None:
    mail = world.accept_and_claim()
    world.record(mail, OutcomeKind.UNKNOWN)
    world.pass_s(10)
    world.settle()
    sender = world.new_sender()
    (again,) = world.claim(sender=sender)
    world.learn(event(E.DELIVERY, request_id=mail.request_id))
    assert world.rescue(sender) == (0, 0)
    world.record(again, OutcomeKind.DEFERRED)
    assert world.state(mail.request_id) is State.DELIVERED
    assert world.claim() == []


@pytest.mark.parametrize("quicker", [True, False], ids=["event first", "uncertain first"])
def test_the_providers_id_is_kept_however_the_mail_was_settled(world: World, quicker: bool) -> None:
    """Later events may name the provider's id only."""
    mail = world.accept_and_claim()
    delivery = event(E.DELIVERY, request_id=mail.request_id, provider_id="p-7")
    if quicker:
        world.learn(event(E.DELIVERY, request_id=mail.request_id))
        world.record(mail, provider_id="p-7")
    else:
        world.record(mail, OutcomeKind.UNKNOWN)
        world.learn(delivery)
    world.learn(event(E.COMPLAINT, provider_id="p-7"))
    assert world.state(mail.request_id) is State.COMPLAINED


def test_a_cancelled_mail_stays_cancelled(world: World) -> None:
    (request_id,) = world.accept("a@x.org")
    with world.store.write():
        world.store.mails.cancel(request_id, now_ms=world.now_ms)
    world.learn(event(E.DELIVERY, request_id=request_id))
    assert world.state(request_id) is State.CANCELLED


@pytest.mark.parametrize(
    ("kind", "permanent", "listed"),
    [
        (E.BOUNCE, True, [("p-1@example.org", "", "bounce")]),
        (E.BOUNCE, False, []),
        (E.COMPLAINT, False, [("p-1@example.org", "news", "complaint")]),
        (E.UNSUBSCRIBE, False, [("p-1@example.org", "news", "unsubscribe")]),
        (E.DELIVERY, True, []),
        (E.DELAY, True, []),
    ],
)
def test_an_address_is_suppressed_where_it_should_be(
    world: World, kind: EventType, permanent: bool, listed: list[tuple[str, str, str]]
) -> None:
    sent(world)
    world.learn(event(kind, provider_id="p-1", permanent=permanent))
    assert suppressions(world) == listed


def test_a_complaint_of_mail_without_a_topic_holds_everywhere(world: World) -> None:
    sent(world, topic_id=None)
    world.learn(event(E.COMPLAINT, provider_id="p-1"))
    assert suppressions(world) == [("p-1@example.org", "", "complaint")]


def test_opens_are_counted_once_in_all_and_by_machines(world: World) -> None:
    request_id = sent(world)
    world.learn(event(E.OPEN, request_id=request_id))
    world.pass_s(60)
    world.learn(event(E.OPEN, request_id=request_id), event(E.OPEN, request_id=request_id))
    world.learn(event(E.OPEN, request_id=request_id, automated=True))
    counters = world.counters("news/a")
    assert counters["opens"] == 1
    assert counters["opens_total"] == 4
    assert counters["opens_automated"] == 2  # the first came within a second of the sending


def test_opens_clicks_and_unsubscribes_move_no_mail(world: World) -> None:
    request_id = sent(world)
    for kind in (E.OPEN, E.CLICK, E.UNSUBSCRIBE, E.OTHER):
        world.learn(event(kind, request_id=request_id))
    assert world.state(request_id) is State.SENT


def test_a_history_tells_everything_in_its_order(world: World) -> None:
    mail = world.accept_and_claim()
    world.record(mail, OutcomeKind.DEFERRED, "451 busy")
    world.pass_s(60)
    (mail,) = world.claim()
    world.record(mail, provider_id="p")
    world.learn(event(E.DELIVERY, provider_id="p", detail="250 ok"))
    told = [(e.type, e.detail) for e in world.store.mails.events(mail.id)]
    assert told == [("deferred", "451 busy"), ("sent", ""), ("delivery", "250 ok")]


def test_one_message_to_many_has_events_for_each(world: World) -> None:
    ids = world.accept(*people(3), topic_id="t")
    world.record(world.claim())
    for request_id in ids:
        world.learn(event(E.DELIVERY, request_id=request_id))
    assert world.counters("t") == {"total": 3, "delivered": 3, "deliveries": 3}
