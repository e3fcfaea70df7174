"""What a sender claims where LIMITS names its transport, or a domain by it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mailer.allowance import allowance
from mailer.sender import Sender
from mailer.store.queue import Ask
from mailer.vocabulary import Lane, State
from tests.store.world import people
from tests.unit.memory import Memory, Post, work

HOUR_US = 3_600_000_000

Start = Callable[[str], Post]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[Post] = []

    def run(limits: str) -> Post:
        started.append(Post(tmp_path / "mailer.db", LIMITS=limits, INTERACTIVE_RESERVE="20%"))
        return started[-1]

    yield run
    for post in started:
        post.world.close()


def idle(sender: Sender) -> Sender:
    """One whose session is open and that has nothing to do."""
    work(sender, lambda: sender.sessions[0].idle and sender.at_rest)
    return sender


def asks(post: Post, sender: Sender) -> list[Ask]:
    now_ms, now_us = post.clock.wall_ms(), post.clock.mono_us()
    return list(
        allowance(
            post.world.store,
            sender.sessions,
            post.settings(),
            sender=1,
            takes_alone=True,
            now_ms=now_ms,
            now_us=now_us,
        ).asks
    )


def test_bulk_mail_leaves_a_part_of_a_window_to_interactive_and_waits_for_it(start: Start) -> None:
    post = start("post=10/h")
    bulk = post.world.accept(*people(20))
    sender = post.sender(Memory())
    post.step_until(sender, bulk[:8], State.SENT)
    work(sender, lambda: sender.at_rest)
    assert sender.step() == 0
    assert post.world.states(bulk[8:]) == [State.PENDING] * 12
    opens_us = sender.next_slot_us
    assert opens_us is not None
    assert 0.98 * HOUR_US < opens_us - post.clock.mono_us() < 1.02 * HOUR_US
    urgent = post.world.accept(*people(3), lane=Lane.INTERACTIVE)
    post.step_until(sender, urgent[:2], State.SENT)
    work(sender, lambda: sender.at_rest)
    assert sender.step() == 0
    assert post.world.state(urgent[2]) is State.PENDING
    post.clock.ahead_us += opens_us - post.clock.mono_us()
    post.step_until(sender, urgent + bulk[8:10], State.SENT)


def test_control_without_the_limit_all_of_it_goes(start: Start) -> None:
    post = start("post=500/s")
    bulk = post.world.accept(*people(20))
    post.step_until(post.sender(Memory()), bulk, State.SENT)


def test_what_is_due_first_has_the_first_choice_of_the_rate(start: Start) -> None:
    post = start("post=100/s; post@x.org=20/s; post@y.org=20/s")
    sender = post.sender(Memory())
    post.step_until(sender, post.world.accept("first@z.org"), State.SENT)
    idle(sender)
    post.clock.ahead_us += 1_000_000
    post.world.accept("a@y.org", due_in_s=-1)
    post.world.accept("b@z.org", due_in_s=-3)
    post.world.accept("c@x.org", due_in_s=-2)
    assert [ask.queues for ask in asks(post, sender)] == [
        ("post",),
        ("post@x.org",),
        ("post@y.org",),
    ]
    post.world.accept("d@y.org", lane=Lane.INTERACTIVE)
    found = asks(post, sender)
    assert [ask.queues[0] for ask in found] == ["post@y.org", "post", "post@x.org"]
    assert [ask.ways for ask in found] == [
        ("post", "post@y.org"),
        ("post",),
        ("post", "post@x.org"),
    ]
    assert [list(ask.rates) for ask in found] == [list(ask.ways) for ask in found]


def test_mail_of_a_domain_that_has_no_limit_any_more_goes_on(start: Start) -> None:
    post = start("post=500/s")
    ids = post.world.accept("a@x.org", transport="post@x.org")
    post.step_until(post.sender(Memory()), ids, State.SENT)


def test_a_full_domain_holds_nothing_else_back(start: Start) -> None:
    """Not even mail that is to be handed over with no other, and waits for its domain."""
    post = start("post@x.org=1/h")
    crashing, waiting = post.world.accept("a@x.org", "b@x.org")
    dead = post.world.new_sender()
    post.world.now_us = post.clock.mono_us()
    post.world.claim(sender=dead, queues=("post@x.org",), domain_way="post@x.org", calls=1)
    post.world.rescue(dead)
    post.world.now_ms += 3_600_000
    post.world.settle()
    assert post.world.mail(crashing).waits_for == "alone"
    sender = post.sender(Memory())
    others = post.world.accept(*people(20))
    post.step_until(sender, others, State.SENT)
    assert post.world.states([crashing, waiting]) == [State.PENDING] * 2
    post.clock.ahead_us += HOUR_US * 102 // 100
    post.step_until(sender, [crashing], State.SENT)
    work(sender, lambda: sender.at_rest)
    assert post.world.state(waiting) is State.PENDING
