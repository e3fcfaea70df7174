"""What reaches an endpoint, in which order, and what happens when it does not."""

from __future__ import annotations

import json
import threading

import pytest

from tests.store.world import World
from tests.waiting import until
from tests.webhook import receiver as r
from tests.webhook.desk import Desk
from tests.webhook.receiver import Receiver

DAY_MS = 86_400_000


def ids(receiver: Receiver) -> list[str]:
    return [delivery.webhook_id for delivery in receiver.deliveries]


def test_an_event_arrives_signed_under_its_own_id(desk: Desk, receiver: Receiver) -> None:
    endpoint = desk.add(receiver.url)
    desk.world.now_ms = r.now_ms()  # the library refuses signatures that are old
    event_id = desk.happen("b1-0", "bounce", detail="550 no such user", permanent=True)
    desk.settle()
    (delivery,) = receiver.deliveries
    body = delivery.verified(desk.secret(endpoint))
    assert delivery.webhook_id == event_id == body["data"]["id"]
    assert (body["type"], body["data"]["mail_id"]) == ("bounce", "b1-0")
    assert (body["data"]["permanent"], body["data"]["detail"]) == (True, "550 no such user")
    assert body["timestamp"].endswith("Z")
    assert b"SECRET-RAW" not in delivery.body
    assert desk.waiting() == 0
    assert desk.endpoints.get(endpoint).delivered == 1


@pytest.mark.parametrize(
    ("choice", "told"),
    [
        ({}, 6),
        ({"types": ("bounce", "open")}, 2),
        ({"types": ("delivery",), "topics": ("news/*",)}, 1),
        ({"topics": ("news/*", "receipts")}, 4),
        ({"topics": ("*",)}, 6),
        ({"topics": ("news",)}, 0),
    ],
)
def test_an_endpoint_is_told_what_it_asked_for(
    desk: Desk, receiver: Receiver, choice: dict[str, tuple[str, ...]], told: int
) -> None:
    desk.add(receiver.url, **choice)
    for topic_id in ("news/1", "receipts", None):
        desk.happen("b1-0", "delivery", topic_id=topic_id)
    desk.happen("b1-1", "bounce", topic_id="news/2/x")
    desk.happen("b1-2", "open", topic_id="news/1")
    desk.happen(None, "accepted", topic_id=None)
    desk.settle()
    assert len(receiver.deliveries) == told


def test_the_events_of_a_mail_keep_their_order(desk: Desk, receiver: Receiver) -> None:
    desk.add(receiver.url)
    sent = [(f"b1-{n % 7}", desk.happen(f"b1-{n % 7}")) for n in range(70)]
    desk.settle()
    by_mail = {mail: [id_ for m, id_ in sent if m == mail] for mail, _ in sent}
    for mail, in_order in by_mail.items():
        assert [id_ for id_ in ids(receiver) if id_ in in_order] == in_order, mail


def test_a_failing_delivery_holds_back_its_own_mail_and_no_other(
    desk: Desk, receiver: Receiver
) -> None:
    desk.add(receiver.url)
    receiver.behaviour_for = lambda d: r.WRONG["500"] if d.webhook_id[:2] == "1-" else r.GOOD
    first, *_ = held = [desk.happen("b1-0") for _ in range(3)]
    others = [desk.happen(f"b1-{n}") for n in range(1, 9)]
    desk.settle()
    assert sorted(ids(receiver)) == sorted([first, *others])
    assert desk.waiting("behind") == 3
    receiver.behaviour_for = lambda _: r.GOOD
    desk.world.pass_s(6)
    desk.settle()
    assert [id_ for id_ in ids(receiver)[9:] if id_ in held] == held
    assert desk.waiting() == 0


def test_an_event_told_twice_is_sent_once_while_it_waits(desk: Desk, receiver: Receiver) -> None:
    desk.add(receiver.url)
    event = desk.event("b1-0")
    receiver.behaviour = r.WRONG["500"]
    with desk.access.write():
        desk.tell(event)
        desk.tell(event)
    desk.settle()
    with desk.access.write():
        desk.tell(event)
    desk.settle()
    receiver.behaviour = r.GOOD
    desk.world.pass_s(10)
    desk.settle()
    assert ids(receiver) == [event.id, event.id]  # the one that failed, the one that did not
    assert desk.waiting() == 0
    assert desk.access.shelf.read("due/") == []


def test_what_was_in_flight_at_a_kill_comes_again(desk: Desk, receiver: Receiver) -> None:
    desk.add(receiver.url)
    sent = [desk.happen(f"b1-{n}") for n in range(20)]
    desk.deliverer.step()
    until(lambda: len(receiver.deliveries) == 20)
    desk.start_anew()
    desk.settle()
    assert sorted(ids(receiver)) == sorted(2 * sent)
    assert desk.waiting() == 0


@pytest.mark.parametrize("careful", [True, False], ids=["kept", "control: forgotten too early"])
def test_what_was_not_answered_at_a_kill_is_not_lost(
    desk: Desk, receiver: Receiver, careful: bool
) -> None:
    jobs = f"webhook {desk.add(receiver.url)}."
    sent = {desk.happen(f"b1-{n}") for n in range(20)}
    receiver.behaviour = r.WRONG["reset"]
    desk.deliverer.step()
    until(lambda: not any(t.name.startswith(jobs) for t in threading.enumerate()))
    if not careful:
        with desk.access.write():
            for key, _ in desk.access.shelf.read("new/"):
                desk.access.shelf.remove(key)
    desk.start_anew()
    receiver.behaviour = r.GOOD
    receiver.event_ids.clear()
    desk.settle()
    assert (receiver.event_ids >= sent) is careful


def test_control_what_was_written_down_before_it_does_not(desk: Desk, receiver: Receiver) -> None:
    desk.add(receiver.url)
    sent = [desk.happen(f"b1-{n}") for n in range(20)]
    desk.settle()
    desk.start_anew()
    desk.settle()
    assert sorted(ids(receiver)) == sorted(sent)


def test_many_are_written_down_in_few_commits(desk: Desk, receiver: Receiver) -> None:
    desk.add(receiver.url)
    with desk.access.write():
        for n in range(300):
            desk.tell(desk.event(f"b1-{n}"))
    before = desk.access.commits
    desk.settle()
    assert len(receiver.deliveries) == 300
    assert desk.access.commits - before < 40


def test_batches(desk: Desk, receiver: Receiver) -> None:
    endpoint = desk.add(receiver.url, batch_size=100)
    desk.world.now_ms = r.now_ms()
    with desk.access.write():
        sent = [desk.tell(desk.event(f"b1-{n}")) for n in range(200)]
    desk.settle()
    batches = [delivery.verified(desk.secret(endpoint)) for delivery in receiver.deliveries]
    assert len(batches) < 10
    assert {batch["type"] for batch in batches} == {"batch"}
    assert sorted(e["data"]["id"] for b in batches for e in b["data"]) == sorted(sent)
    assert len(set(ids(receiver))) == len(batches)
    assert desk.endpoints.get(endpoint).delivered == 200


def test_of_a_batch_that_failed_each_goes_alone(desk: Desk, receiver: Receiver) -> None:
    """One that the receiver can't bear keeps no other from it."""
    endpoint = desk.add(receiver.url, batch_size=100)
    sent = [desk.happen(f"b1-{n}") for n in range(20)]
    poison = f'"{sent[7]}"'.encode()
    receiver.behaviour_for = lambda d: r.WRONG["500"] if poison in d.body else r.GOOD
    desk.pass_until(desk.world.now_ms + DAY_MS)
    good = [d for d in receiver.deliveries if poison not in d.body]
    arrived = {e["data"]["id"] for d in good for e in json.loads(d.body)["data"]}
    assert arrived == {*sent} - {sent[7]}
    assert desk.waiting() == 1
    assert desk.endpoints.get(endpoint).delivered == 19


def test_an_answer_of_410_switches_it_off_and_an_event_tells(
    desk: Desk, receiver: Receiver, world: World
) -> None:
    endpoint = desk.add(receiver.url)
    receiver.behaviour = r.status("410 Gone")
    event_id = desk.happen("b1-0")
    desk.settle()
    desk.happen("b1-1")
    desk.pass_until(world.now_ms + 4 * DAY_MS)
    stored = desk.endpoints.get(endpoint)
    assert (stored.enabled, stored.off_reason) == (False, "it answered 410 Gone")
    assert len(receiver.deliveries) == 1
    assert [event.detail for event in desk.access.learnt] == [
        f"webhook endpoint {endpoint} was switched off: it answered 410 Gone"
    ]
    desk.start_anew()
    desk.settle()
    assert len(desk.access.learnt) == 1

    receiver.behaviour = r.GOOD
    with desk.access.write():
        desk.endpoints.put(stored.switched_on())
    desk.settle()
    assert ids(receiver) == [event_id, event_id]


def test_one_that_fails_for_five_days_is_switched_off(
    desk: Desk, receiver: Receiver, world: World
) -> None:
    endpoint = desk.add(receiver.url)
    receiver.behaviour = r.WRONG["500"]
    start_ms = world.now_ms
    for day in range(5):
        desk.happen(f"b1-{day}")
        desk.pass_until(start_ms + (day + 1) * DAY_MS - 1)
        assert desk.endpoints.get(endpoint).enabled
    desk.happen("b1-9")
    desk.pass_until(start_ms + 5 * DAY_MS + 60_000)
    assert "failed for five days" in desk.endpoints.get(endpoint).off_reason
    assert len(desk.access.learnt) == 1
    assert desk.endpoints.get(endpoint).given_up >= 1


def test_a_pause_that_was_asked_for_holds_for_all_of_the_endpoint(
    desk: Desk, receiver: Receiver, world: World
) -> None:
    desk.add(receiver.url)
    receiver.behaviour = r.status("429 Too Many Requests", "Retry-After: 600")
    start_ms = world.now_ms
    desk.happen("b1-0")
    desk.settle()
    for n in range(1, 9):
        desk.happen(f"b1-{n}")
    desk.pass_until(start_ms + 599_000)
    assert len(receiver.deliveries) == 1
    receiver.behaviour = r.GOOD
    desk.pass_until(start_ms + 700_000)
    assert len(receiver.deliveries) == 10


def test_what_is_left_of_a_removed_endpoint_is_dropped(
    desk: Desk, receiver: Receiver, world: World
) -> None:
    kept, removed = desk.add(receiver.url + "?1"), desk.add(receiver.url + "?2")
    receiver.behaviour = r.WRONG["500"]
    for n in range(30):
        desk.happen(f"b1-{n}")
    desk.settle()
    with desk.access.write():
        desk.endpoints.remove(removed)
    world.pass_s(3601)
    desk.settle()
    left = [key for key, _ in desk.records() if not key.startswith("endpoint/")]
    assert left
    assert all(f"/{kept}." in key for key in left)


def test_control_what_vanishes_from_the_shelf_is_missed(desk: Desk, receiver: Receiver) -> None:
    """The ledgers of these tests see a loss."""
    desk.add(receiver.url)
    sent = [desk.happen(f"b1-{n}") for n in range(20)]
    with desk.access.write():
        key, _ = desk.access.shelf.read("new/")[5]
        desk.access.shelf.remove(key)
    desk.settle()
    assert len({*sent} - {*ids(receiver)}) == 1
