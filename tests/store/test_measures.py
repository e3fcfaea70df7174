"""What is counted for `/metrics`: once, whatever is undone, added up over processes."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from mailer.metrics import EVENTS, LOCK_WAIT, PROVIDER_CALL, STARTS
from mailer.store import Store
from mailer.store.connection import lock_path
from mailer.store.measures import Durations
from mailer.vocabulary import EventType
from tests.store.world import RULES, World, event
from tests.waiting import until


def measured(world: World) -> dict[tuple[str, tuple[str, ...]], float | Durations]:
    return {(name, labels): value for name, labels, value in world.store.status.measured()}


def written(store: Store) -> None:
    store.measures.hasten()
    with store.write():
        pass


def test_processes_add_to_the_same_counts(world: World) -> None:
    for store in (world.store, world.twin(), world.twin()):
        store.measures.add(STARTS, ("sender 0",), 2)
        written(store)
    assert measured(world) == {(STARTS.name, ("sender 0",)): 6}


def test_durations_are_counted_by_their_bounds(world: World) -> None:
    for took_us, number in ((1_000, 1), (1_001, 2), (10**12, 1), (-5, 1)):
        world.store.measures.observe(PROVIDER_CALL, ("post",), took_us, number)
    written(world.store)
    took = measured(world)[PROVIDER_CALL.name, ("post",)]
    assert isinstance(took, Durations)
    counts = dict(took.up_to_s)
    assert [counts[bound_s] for bound_s in (0.001, 0.0025, 14400.0, float("inf"))] == [2, 4, 4, 5]
    assert took.sum_s == pytest.approx(0.003002 + 1e6)


def test_no_sum_is_too_large_to_be_kept(world: World) -> None:
    """A century late, ten million times: what is measured must never keep mail from being sent."""
    century_us = 100 * 365 * 24 * 3600 * 10**6
    for _ in range(2):
        world.store.measures.observe(PROVIDER_CALL, ("post",), century_us, 10**7)
        written(world.store)
    took = measured(world)[PROVIDER_CALL.name, ("post",)]
    assert isinstance(took, Durations)
    assert took.sum_s == pytest.approx(2 * 10**7 * century_us / 1e6)


def test_a_commit_within_a_second_of_the_last_that_took_some_takes_none(world: World) -> None:
    world.store.measures.add(STARTS, ("a",))
    written(world.store)
    world.store.measures.add(STARTS, ("a",))
    with world.store.write():
        pass
    assert measured(world) == {(STARTS.name, ("a",)): 1}
    written(world.store)
    assert measured(world) == {(STARTS.name, ("a",)): 2}


def learn_and_fail(world: World, within: Callable[[], AbstractContextManager[None]]) -> None:
    with within():
        told = event(EventType.DELIVERY, provider_id="x")
        world.store.events.learn([told], now_ms=world.now_ms)
        raise ZeroDivisionError


def test_what_is_undone_was_not_counted(world: World) -> None:
    world.store.measures.hasten()
    with pytest.raises(ZeroDivisionError):
        learn_and_fail(world, world.store.write)
    with world.store.write():
        world.store.events.learn([event(EventType.BOUNCE, provider_id="x")], now_ms=world.now_ms)
        with pytest.raises(ZeroDivisionError):
            learn_and_fail(world, world.store.part)
    counted = [(labels, n) for (name, labels), n in measured(world).items() if name == EVENTS.name]
    assert counted == [(("provider", "bounce"), 1)]


def test_what_was_measured_before_a_transaction_that_fails_is_kept(world: World) -> None:
    world.store.measures.add(STARTS, ("a",))
    with pytest.raises(ZeroDivisionError), world.store.write():
        raise ZeroDivisionError
    written(world.store)
    assert measured(world) == {(STARTS.name, ("a",)): 1}


def test_an_event_told_twice_counts_once(world: World) -> None:
    told = event(EventType.DELIVERY, provider_id="x", source_event_id="1")
    world.learn(told, told)
    world.learn(told)
    written(world.store)
    assert measured(world)[EVENTS.name, ("provider", "delivery")] == 1


def test_waits_for_the_write_lock_are_timed(world: World) -> None:
    with world.store.write():
        pass
    holder = os.open(lock_path(world.path), os.O_RDWR)
    fcntl.flock(holder, fcntl.LOCK_EX)
    twin = Store(world.path, RULES)
    world.stores.append(twin)
    waiter = threading.Thread(target=written, args=(twin,))
    waiter.start()
    locks = f"-> FLOCK  ADVISORY  WRITE {os.getpid()} "
    until(lambda: locks in Path("/proc/locks").read_text())
    threading.Event().wait(0.02)
    os.close(holder)
    waiter.join()
    waits = measured(world)[LOCK_WAIT.name, ()]
    assert isinstance(waits, Durations)
    assert dict(waits.up_to_s)[float("inf")] == 1
    assert 0.02 <= waits.sum_s < 60


def test_a_lock_that_is_free_is_no_wait(world: World) -> None:
    """The control: else every commit would be one."""
    for _ in range(20):
        written(world.store)
    assert measured(world).get((LOCK_WAIT.name, ())) is None
