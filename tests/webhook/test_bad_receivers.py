"""Receivers that are down, slow, or answer too much: nothing is lost, and no other endpoint waits.

Each promise has its control, in which the ledger shows the loss or the delay it is there to show.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from itertools import pairwise

import pytest
from mailer_webhook.schedule import GIVE_UP_AFTER_MS

from tests.waiting import until
from tests.webhook import receiver as r
from tests.webhook.desk import Desk
from tests.webhook.receiver import Receiver

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


def outage(desk: Desk, down: Receiver, other: Receiver, days: int) -> list[str]:
    """Events of 30 mails, two each, in the first hours of an outage; their ids."""
    desk.add(down.url)
    desk.add(other.url)
    down.behaviour = r.WRONG["reset"]
    start_ms = desk.world.now_ms
    told = []
    for n in range(60):
        told.append(desk.happen(f"b1-{n % 30}"))
        desk.pass_until(start_ms + (n + 1) * HOUR_MS // 20)
        assert other.deliveries[-1].webhook_id == told[-1]
    desk.pass_until(start_ms + days * DAY_MS)
    down.behaviour = r.GOOD
    down.deliveries.clear()
    desk.pass_until(desk.world.now_ms + DAY_MS)
    return told


def test_a_receiver_down_for_three_days_misses_nothing(desk: Desk, receiver: Receiver) -> None:
    with Receiver() as other:
        told = outage(desk, receiver, other, days=3)
        arrived = [delivery.webhook_id for delivery in receiver.deliveries]
        assert Counter(arrived) == Counter(told)
        for n in range(30):  # each mail's second event after its first
            assert arrived.index(told[n]) < arrived.index(told[n + 30])
        assert [delivery.webhook_id for delivery in other.deliveries] == told
    assert desk.waiting() == 0


def test_control_down_for_four_days_some_are_given_up(desk: Desk, receiver: Receiver) -> None:
    with Receiver() as other:
        told = outage(desk, receiver, other, days=4)
        assert len({delivery.webhook_id for delivery in receiver.deliveries}) < len(told)
        assert [delivery.webhook_id for delivery in other.deliveries] == told
    (endpoint,) = (e for e in desk.endpoints.all() if e.choice.url == receiver.url)
    assert endpoint.given_up == len(told) - endpoint.delivered > 0


def test_when_a_lone_delivery_is_tried(desk: Desk, receiver: Receiver) -> None:
    """The schedule of the specification, up to 12 hours, with half of the jitter."""
    desk.add(receiver.url)
    tries: list[int] = []
    start_ms = desk.world.now_ms

    def note(_: object) -> r.Behaviour:
        tries.append(desk.world.now_ms - start_ms)
        return r.WRONG["500"]

    receiver.behaviour_for = note
    desk.happen("b1-0")
    desk.pass_until(start_ms + 10 * DAY_MS)
    waits_s = [(b - a) / 1000 for a, b in pairwise(tries)]
    spec_s = [5, 300, 1800, 7200, 18_000, 36_000, *[43_200] * 5]
    assert waits_s == [pytest.approx(wait * 1.05, abs=1) for wait in spec_s]
    assert tries[-1] > GIVE_UP_AFTER_MS


def test_a_failing_endpoint_is_not_hammered(desk: Desk, receiver: Receiver) -> None:
    """Five hundred events wait, and it is asked about once a minute."""
    desk.add(receiver.url)
    receiver.behaviour = r.WRONG["500"]
    with desk.access.write():
        for n in range(500):
            desk.tell(desk.event(f"b1-{n}"))
    desk.pass_until(desk.world.now_ms + HOUR_MS)
    assert 55 < len(receiver.deliveries) < 80
    receiver.behaviour = r.GOOD
    arrived = len(receiver.deliveries)
    desk.pass_until(desk.world.now_ms + 120_000)
    assert len(receiver.deliveries) - arrived > 400


def test_slow_endpoints_delay_no_other(desk: Desk, receiver: Receiver) -> None:
    """Twenty hang with all their streams; the deliverer runs as it does in its process."""
    with Receiver(r.hang) as slow:
        for n in range(20):
            desk.add(f"{slow.url}?{n}")
        desk.add(receiver.url)
        with desk.access.write():
            told = [desk.tell(desk.event(f"b1-{n}")) for n in range(300)]
        started = time.monotonic()
        run(desk, lambda: len(receiver.deliveries) == len(told))
        assert time.monotonic() - started < 10
        assert slow.connections == 80  # 4 in flight to each, and no more


def test_control_events_behind_a_slow_one_of_their_own_endpoint_wait(
    desk: Desk, receiver: Receiver
) -> None:
    receiver.behaviour_for = lambda d: r.hang if d.webhook_id.startswith("1-") else r.GOOD
    desk.add(receiver.url)
    with desk.access.write():
        for _ in range(20):
            desk.tell(desk.event("b1-0"))
    with pytest.raises(AssertionError, match="not within"):
        run(desk, lambda: len(receiver.deliveries) > 1, within_s=1)


def test_big_answers_and_redirects_cost_nothing_and_reach_nobody(desk: Desk) -> None:
    with (
        Receiver() as canary,
        Receiver(r.big) as big,
        Receiver() as redirecting,
        Receiver() as good,
    ):
        location = f"Location: {canary.url}"
        redirecting.behaviour = r.status("307 Temporary Redirect", location)
        made = {receiver: desk.add(receiver.url) for receiver in (big, redirecting, good)}
        told = {desk.happen(f"b1-{n}") for n in range(5)}
        desk.settle()
        assert {delivery.webhook_id for delivery in big.deliveries} == told
        assert {delivery.webhook_id for delivery in good.deliveries} == told
        assert desk.endpoints.get(made[redirecting]).delivered == 0
        assert desk.endpoints.get(made[redirecting]).health.last_failure.startswith("307")
        assert desk.waiting() == 5
        assert canary.connections == 0
        redirecting.close()


def run(desk: Desk, done: Callable[[], bool], within_s: float = 20) -> None:
    """Run the deliverer's own loop in this thread, to which the store belongs, until `done`."""
    failures: list[BaseException] = []

    def watch() -> None:
        try:
            until(done, within_s=within_s)
        except AssertionError as error:
            failures.append(error)
        desk.access.stopping = True
        desk.access.wake()

    watching = threading.Thread(target=watch)
    watching.start()
    desk.deliverer.run(stop_within_s=0)
    watching.join()
    if failures:
        raise failures[0]
