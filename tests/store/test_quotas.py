"""What all senders know of a transport: its pauses, its limits, and what was sent in a day."""

from __future__ import annotations

import pytest

from mailer.allowance import rate_per_second
from mailer.hookspecs import Quota
from mailer.pacing import Lesson
from mailer.settings import load
from mailer.vocabulary import Condition, OutcomeKind
from tests.store.world import DAY_MS, World, people


@pytest.fixture
def post(world: World) -> World:
    """With the transport registered, as the supervisor does."""
    with world.store.write():
        world.store.transports.register("post", reports_events=False)
    return world


def keep(world: World, **quota: float | int) -> None:
    with world.store.write():
        world.store.transports.keep_quota("post", Quota(**quota), world.now_ms)  # type: ignore[arg-type]


def send(world: World, count: int) -> None:
    world.accept(*people(count))
    world.record(world.claim())


def left(world: World) -> int | None:
    return world.store.transports.left_today("post", world.now_ms)[0]


def throttled(world: World) -> int:
    state = world.store.transports.get("post")
    assert state is not None
    return state.throttled


def test_without_a_quota_nothing_bounds_the_day(post: World) -> None:
    assert post.store.transports.left_today("post", post.now_ms) == (None, None)
    assert post.store.transports.left_today("unknown", post.now_ms) == (None, None)


def test_the_day_rolls(post: World) -> None:
    keep(post, max_24h=10)
    send(post, 4)
    post.pass_s(12 * 3600)
    send(post, 5)
    assert left(post) == 1
    post.pass_s(12 * 3600 + 60)
    assert left(post) == 5
    post.pass_s(12 * 3600)
    assert left(post) == 10


def test_a_day_more_than_spent_leaves_nothing(post: World) -> None:
    send(post, 5)
    keep(post, max_24h=3)
    assert left(post) == 0


def test_of_the_providers_count_and_ours_the_higher_holds(post: World) -> None:
    send(post, 2)
    post.pass_s(60)
    keep(post, max_24h=100, sent_24h=50)
    assert left(post) == 50
    send(post, 5)
    assert left(post) == 45
    keep(post, max_24h=100, sent_24h=0)
    assert left(post) == 93


def test_a_mail_not_taken_is_not_counted(post: World) -> None:
    keep(post, max_24h=10)
    post.accept(*people(3))
    for mail, kind in zip(post.claim(), ("rejected", "deferred", "throttled"), strict=True):
        post.record(mail, OutcomeKind(kind))
    assert left(post) == 10


def test_what_is_in_flight_or_may_have_been_taken_counts_as_sent(post: World) -> None:
    """Else several senders would each take what is left, and more while the first answers come."""
    keep(post, max_24h=10)
    post.accept(*people(6))
    first, second, third, *_ = post.claim(calls=4)
    assert left(post) == 6
    post.record(first)
    post.record(second, OutcomeKind.UNKNOWN)
    post.record(third, OutcomeKind.REJECTED)
    assert left(post) == 7
    post.pass_s(10)
    post.settle()
    assert left(post) == 8


def test_a_wall_clock_set_back_gives_no_more(post: World) -> None:
    keep(post, max_24h=10)
    send(post, 8)
    post.now_ms -= DAY_MS
    assert left(post) == 2


def test_old_counts_are_forgotten(post: World) -> None:
    send(post, 3)
    minute = post.now_ms // 60_000
    with post.store.write():
        post.store.transports.forget_sends(minute)
    assert post.store.transports.sent_since(0) == 3
    send(post, 2)
    assert post.store.transports.sent_since(0, "post") == 5


@pytest.mark.parametrize("words", ["slow down", ""])
def test_a_pause_holds_for_all_until_mail_is_taken_again(post: World, words: str) -> None:
    for _ in range(3):
        with post.store.write():
            post.store.transports.block("post", post.now_us + 1_000, words)
    assert throttled(post) == 3
    blocks = post.store.transports.troubled(post.now_us)
    assert [(b.transport, b.blocked_until_us) for b in blocks] == [("post", post.now_us + 1_000)]
    assert post.store.transports.troubled(post.now_us + 1_000) == []
    with post.store.write():
        post.store.transports.unblock("post")
    assert throttled(post) == 0


def test_a_provider_out_of_reach_is_shown_until_it_takes_mail(post: World) -> None:
    with post.store.write():
        post.store.transports.note_unreachable("post", "no route to it")
    (block,) = post.store.transports.troubled(post.now_us)
    assert (block.blocked_until_us, block.blocked_reason) == (0, "no route to it")
    with post.store.write():
        post.store.transports.unblock("post")
    assert post.store.transports.troubled(post.now_us) == []


def condition(world: World) -> tuple[Condition, int | None]:
    state = world.store.transports.get("post")
    assert state is not None
    return state.condition(world.now_us), state.halted_at_ms


def test_a_halt_is_dated_from_its_first_word_until_mail_is_taken(post: World) -> None:
    since = post.now_ms
    for _ in range(2):
        with post.store.write():
            post.store.transports.block(
                "post", post.now_us + 60_000_000, "not verified", halted_at_ms=post.now_ms
            )
        post.pass_s(30)
        assert condition(post) == (Condition.HALTED, since)
    with post.store.write():
        post.store.transports.end_halt("post")
    assert condition(post) == (Condition.HALTED, since)
    assert post.store.transports.troubled(post.now_us)[0].blocked_until_us == 0  # tried at once
    with post.store.write():
        post.store.transports.unblock("post")
    assert condition(post) == (Condition.WORKING, None)


def test_a_halt_the_provider_itself_told_of_ends_when_it_answers(post: World) -> None:
    with post.store.write():
        post.store.transports.note_unreachable("post", "paused", halted_at_ms=post.now_ms)
    assert condition(post)[0] is Condition.HALTED
    with post.store.write():
        post.store.transports.end_halt("post")
    assert condition(post) == (Condition.WORKING, None)


def test_another_trouble_is_no_halt_any_more(post: World) -> None:
    with post.store.write():
        post.store.transports.block("post", post.now_us, "suspended", halted_at_ms=post.now_ms)
        post.store.transports.block("post", post.now_us + 1_000, "HTTP 500")
    assert condition(post) == (Condition.PAUSED, None)


def test_bulk_waits_until_enough_of_our_own_is_a_day_old(post: World) -> None:
    def waits_s() -> float | None:
        until_ms = post.store.transports.bulk_waits_until_ms("post", 2, post.now_ms)
        return None if until_ms is None else (until_ms - post.now_ms) / 1000

    keep(post, max_24h=10)
    send(post, 4)
    assert waits_s() is None
    post.pass_s(3600)
    send(post, 5)
    assert waits_s() == pytest.approx(23 * 3600 + 60, abs=60)
    post.pass_s(waits_s() or 0)
    assert waits_s() is None
    keep(post, max_24h=10, sent_24h=10)  # mostly others', of which it is not known when
    assert post.store.transports.bulk_waits_until_ms("post", 9, post.now_ms) is None


def test_while_one_mail_is_tried_no_other_is(post: World) -> None:
    with post.store.write():
        post.store.transports.block("post", post.now_us, "down")
        post.store.transports.await_trial("post", post.now_us + 5_000)
    (block,) = post.store.transports.troubled(post.now_us)
    assert (block.blocked_until_us, block.blocked_reason) == (post.now_us + 5_000, "down")
    with post.store.write():
        post.store.transports.unblock("post")
    assert post.store.transports.troubled(post.now_us) == []


def test_what_was_learnt_of_the_rate_lasts_until_the_next_boot(post: World) -> None:
    lesson = Lesson(120.5, post.now_us)
    with post.store.write():
        post.store.transports.learn_rate("post", lesson)
    state = post.store.transports.get("post")
    assert state is not None
    assert state.lesson == lesson
    assert (
        rate_per_second(load({"MAX_SEND_PER_SECOND": "200"}), "post", state, post.now_us) == 108.45
    )
    assert rate_per_second(load({"MAX_SEND_PER_SECOND": "50"}), "post", state, post.now_us) == 50
    with post.store.write():
        post.store.transports.forget_blocks()
    state = post.store.transports.get("post")
    assert state is not None
    assert state.lesson is None


def test_what_is_no_limit_is_not_kept(post: World) -> None:
    keep(post, max_per_second=0.0, max_24h=-1, sent_24h=5)
    state = post.store.transports.get("post")
    assert state is not None
    assert state.quota == Quota(None, None, 5)
    keep(post, max_24h=0)
    assert left(post) == 0


def test_registering_again_keeps_what_is_known(post: World) -> None:
    keep(post, max_per_second=14.0, max_24h=10)
    with post.store.write():
        post.store.transports.register("post", reports_events=True)
    state = post.store.transports.get("post")
    assert state is not None
    assert state.reports_events
    assert state.quota == Quota(14.0, 10, None)


def test_the_depth_of_the_queue_and_the_oldest_mail_are_told(post: World) -> None:
    post.accept(*people(3))
    post.pass_s(60)
    post.accept(*people(2))
    post.accept("z@x.org", due_in_s=-300, transport="other", topic_id="held")
    with post.store.write():
        post.store.topics.pause("held")
    post.claim(transport="other")
    depths = [(d.transport, d.lane, d.mails) for d in post.store.status.depths()]
    assert depths == [("other", "bulk", 1), ("post", "bulk", 5)]
    assert post.store.status.oldest_due_at_ms(post.now_ms) == post.now_ms - 60_000
