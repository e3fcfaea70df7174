"""Each duty is run once with a time; the schedule runs them whatever one of them does."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mailer import duties
from mailer.clock import SystemClock
from mailer.duties import STEPS, FileCheck, Quotas, Reached, Schedule
from mailer.errors import StoreDamaged, StoreUnavailable
from mailer.pacing import HORIZON_US, Limit
from mailer.settings import load
from mailer.store import topics
from mailer.store.idempotency import KEPT_MS, KeptAnswer
from mailer.store.migrate import migrate
from mailer.vocabulary import EventType, Lane, OutcomeKind, State, WaitsFor
from tests.store.world import DAY_MS, World, event, people
from tests.waiting import until


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    migrate(tmp_path / "mailer.db")
    world = World(tmp_path / "mailer.db")
    yield world
    world.close()


def test_settle_decides_all_that_is_uncertain_for_long_enough(world: World) -> None:
    ids = world.accept(*people(duties.STEP + 5))
    world.record(world.claim(), OutcomeKind.UNKNOWN)
    duties.settle(world.store, world.now_ms)
    assert set(world.states(ids)) == {State.UNCERTAIN}
    duties.settle(world.store, world.now_ms + 2_000)
    assert set(world.states(ids)) == {State.PENDING}


def test_expire_gives_up_all_that_is_past_its_time(world: World) -> None:
    ids = world.accept(*people(duties.STEP + 5), expires_at_ms=world.now_ms + 1)
    duties.expire(world.store, world.now_ms)
    assert set(world.states(ids)) == {State.PENDING}
    duties.expire(world.store, world.now_ms + 1)
    assert set(world.states(ids)) == {State.FAILED}


def test_prune_forgets_mail_answers_events_and_counts(world: World) -> None:
    mail = world.accept_and_claim()
    world.record(mail)
    world.learn(event(EventType.DELIVERY, provider_id="unknown", source_event_id="1"))
    with world.store.write():
        for n in range(duties.STEP * 2):
            answer = KeptAnswer(b"", 200, b"")
            world.store.idempotency.keep("ann", str(n), answer, now_ms=world.now_ms)
    last = str(duties.STEP * 2 - 1)
    duties.prune(world.store, world.now_ms + KEPT_MS, 30 * DAY_MS, DAY_MS)
    assert world.store.idempotency.find("ann", last) is not None
    duties.prune(world.store, world.now_ms + KEPT_MS + 1, 30 * DAY_MS, DAY_MS)
    assert world.store.idempotency.find("ann", last) is None
    assert world.store.mails.get(mail.request_id) is not None
    world.now_ms += 30 * DAY_MS
    world.learn(event(EventType.OTHER, at_ms=world.now_ms + 1))
    duties.prune(world.store, world.now_ms + 1, 30 * DAY_MS, DAY_MS)
    assert world.store.mails.get(mail.request_id) is None
    again = event(EventType.DELIVERY, provider_id="unknown", source_event_id="1")
    assert world.learn(again) == 1, "its first telling is forgotten"
    assert world.store.transports.sent_since(0) == 1
    duties.prune(world.store, world.now_ms + 400 * DAY_MS, 30 * DAY_MS, DAY_MS)
    assert world.store.transports.sent_since(0) == 0


def test_a_cancel_that_was_cut_short_is_finished(world: World) -> None:
    world.accept(*people(topics.STEP + 5), topic_id="news")
    with world.store.write():
        world.store.topics.begin_cancel("news")
        world.store.topics.cancel("news", after=0, now_ms=world.now_ms)
    reached: Reached = {}
    duties.finish_cancels(world.store, world.now_ms + duties.CUT_SHORT_MS, reached)
    assert world.counters("news")["pending"] == 5
    duties.finish_cancels(world.store, world.now_ms + duties.CUT_SHORT_MS + 1, reached)
    assert world.counters("news") == {"total": topics.STEP + 5, "cancelled": topics.STEP + 5}
    assert reached == {}
    new = world.accept("new@x.org", topic_id="news")
    assert world.claim_ids() == new


def test_a_resume_that_was_cut_short_is_finished_however_long_the_topic_is(world: World) -> None:
    """One turn is too short for this topic: the next goes on where it ended."""
    world.accept(*people(topics.STEP * STEPS), topic_id="news")
    (last,) = world.accept("last@x.org", topic_id="news", lane=Lane.INTERACTIVE)
    with world.store.write():
        world.store.topics.pause("news")
    world.claim(calls_bulk=0)
    assert world.mail(last).waits_for is WaitsFor.TOPIC
    reached: Reached = {}
    duties.finish_resumes(world.store, world.now_ms, reached)
    assert reached == {}, "it is still paused"
    with world.store.write():
        world.store.topics.resume("news")
    duties.finish_resumes(world.store, world.now_ms, reached)
    assert world.mail(last).waits_for is WaitsFor.TOPIC
    assert reached == {"news": topics.STEP * STEPS}
    duties.finish_resumes(world.store, world.now_ms, reached)
    assert world.mail(last).waits_for is WaitsFor.TURN
    assert reached == {}
    assert world.store.topics.to_unpark() == ()


def test_many_topics_share_one_turn(world: World) -> None:
    """However many there are, the supervisor is back at its loop after so many commits."""
    waiting = {f"topic {n}": 0 for n in range(STEPS + 7)}
    for topic_id in waiting:
        world.accept("ann@example.com", topic_id=topic_id)
    duties.finish_cancels(world.store, world.now_ms, waiting)
    assert len(waiting) == 7
    duties.finish_cancels(world.store, world.now_ms, waiting)
    assert waiting == {}


@pytest.mark.parametrize("per_second", [1.0, 0.1, 0.004])
def test_no_slot_is_forgotten_while_it_counts(world: World, per_second: float) -> None:
    limit, kept_us = Limit.per_second(per_second), duties.slots_kept_us(per_second)

    def free() -> bool:
        duties.forget_slots(world.store, world.now_us, kept_us)
        plan = world.store.slots.plan
        return bool(plan({"post": limit}, now_us=world.now_us, recipients=1, batch_size=1))

    world.accept("a@x.org")
    (lease,) = world.claim_leases(limit=limit)
    world.now_us = lease.slot.until_us + limit.window_us - HORIZON_US - 1
    assert not free()
    world.now_us += 1
    assert free()


def test_old_slots_are_forgotten(world: World) -> None:
    world.accept("a@x.org")
    world.claim(limit=Limit.per_second(500))
    duties.forget_slots(world.store, world.now_us + 200_000_000, duties.slots_kept_us(None))
    assert world.store.slots.used_since("post", 0) == 0


def test_the_daily_check_finds_damage(world: World) -> None:
    world.accept(*people(200))
    world.close()
    check = FileCheck(world.path)
    assert check.damage() is None
    with world.path.open("r+b") as file:
        file.seek(4096 * 3)
        file.write(b"\xff" * 4096)
    check.begin()
    assert isinstance(until(check.damage), StoreDamaged)


def test_the_daily_check_finds_nothing_wrong_with_a_whole_file(world: World) -> None:
    world.accept("a@x.org")
    check = FileCheck(world.path)
    check.begin()
    until(lambda: check._running is not None and check._running.done())
    assert check.damage() is None


def test_a_duty_that_raises_is_reported_and_the_others_go_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ran: list[str] = []

    def fail() -> None:
        ran.append("fails")
        raise ValueError("what is wrong")

    def unavailable() -> None:
        raise StoreUnavailable("the disk is full")

    plan = Schedule([(1, fail), (1, unavailable), (1, lambda: ran.append("works"))])

    def all_ran_twice() -> bool:
        plan.run_pending()
        return min(ran.count("works"), ran.count("fails")) >= 2

    with caplog.at_level(logging.WARNING):
        until(all_ran_twice)
    assert "what is wrong" in caplog.text
    assert "the disk is full" in caplog.text


def test_damage_is_not_only_reported() -> None:
    def damaged() -> None:
        raise StoreDamaged("the file is damaged")

    plan = Schedule([(1, damaged)])

    def ended() -> bool:
        try:
            plan.run_pending()
        except StoreDamaged:
            return True
        return False

    until(ended)


@pytest.fixture
def local_time(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Sets the process's time zone."""

    def set_zone(name: str) -> None:
        monkeypatch.setenv("TZ", name)
        time.tzset()

    yield set_zone
    monkeypatch.undo()
    time.tzset()


def test_duties_run_on_when_the_local_clock_is_set_back(
    local_time: Callable[[str], None],
) -> None:
    local_time("SUMMER-2")
    ran: list[int] = []
    plan = Schedule([(1, lambda: ran.append(1)), (86400, lambda: None)])
    local_time("WINTER-1")

    def ran_again() -> bool:
        plan.run_pending()
        return bool(ran)

    until(ran_again)


def test_all_duties_are_planned(world: World) -> None:
    """They run once on a database with a mail in it, and none of them fails."""
    world.accept("a@x.org", topic_id="t")
    settings = load({"DATABASE_URL": f"sqlite:///{world.path}"})
    quotas, check = Quotas({}), FileCheck(world.path)
    plan = duties.plan(world.store, settings, SystemClock(), quotas, check)
    for _, duty in plan._duties:
        duty()
    assert world.counters("t") == {"total": 1, "pending": 1}
    assert world.store.housekeeping.has_reserve()
