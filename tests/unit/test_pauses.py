"""What one call says of the whole transport: all senders pause, then one mail is tried."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pytest

from mailer.errors import TransportHalted
from mailer.hookspecs import Envelope, Outcome
from mailer.pacing import Lesson
from mailer.sender import Sender
from mailer.store.transports import TransportState
from mailer.vocabulary import Condition, OutcomeKind, State
from tests.store.world import people
from tests.unit.memory import Memory, Post, Sends, accepted, raising, work
from tests.waiting import until


def is_idle(sender: Sender) -> bool:
    return not sender.running()


def was_tried(transport: Memory, times: int) -> bool:
    return len(transport.sent) >= times


def test_a_throttled_answer_pauses_the_transport_for_all_senders(post: Post) -> None:
    ids = post.world.accept(*people(4))
    transport = Memory(sends=lambda mails: [Outcome(OutcomeKind.THROTTLED, "slow down")])
    ours, theirs = post.sender(transport), post.sender(Memory())
    work(ours, lambda: transport.sent)
    work(ours, lambda: post.world.store.transports.troubled(post.clock.mono_us()))
    work(ours, lambda: ours.at_rest)
    tried = len(transport.sent)
    for _ in range(20):
        assert ours.step() == theirs.step() == 0
    assert len(transport.sent) == tried
    assert {post.world.mail(request_id).attempts for request_id in ids} == {0}
    transport.sends = accepted
    post.clock.ahead_us += 61_000_000
    post.step_until(ours, ids, State.SENT)
    state = post.world.store.transports.get("post")
    assert state is not None
    assert state.throttled == 0


def test_an_outcome_that_halts_is_on_record_until_mail_is_taken(post: Post) -> None:
    ids = post.world.accept(*people(2))
    halt = Outcome(OutcomeKind.THROTTLED, "verify it", retry_after_s=60, halts=True)
    transport = Memory(sends=lambda mails: [halt] * len(mails))
    sender = post.sender(transport)

    def state() -> TransportState:
        found = post.world.store.transports.get("post")
        assert found is not None
        return found

    work(sender, lambda: state().halted_at_ms)
    assert state().condition(post.clock.mono_us()) is Condition.HALTED
    assert state().blocked_reason == "verify it"
    work(sender, lambda: sender.at_rest)
    transport.sends = accepted
    post.clock.ahead_us += 61_000_000
    post.step_until(sender, ids, State.SENT)
    assert state().halted_at_ms is None


def test_a_transport_that_opens_to_say_it_halts_is_halted(post: Post) -> None:
    def halted() -> None:
        raise TransportHalted("sending is paused")

    post.world.accept(*people(1))
    sender = post.sender(Memory(opens=halted))
    work(sender, lambda: post.world.store.transports.troubled(post.clock.mono_us()))
    (state,) = post.world.store.transports.troubled(post.clock.mono_us())
    assert state.condition(post.clock.mono_us()) is Condition.HALTED


def down(mails: Sequence[Envelope]) -> list[Outcome]:
    return [Outcome(OutcomeKind.DEFERRED, "HTTP 500", concerns_all=True)] * len(mails)


@pytest.mark.parametrize("sends", [down, raising(ValueError())], ids=["failing", "silent"])
def test_a_provider_in_trouble_is_tried_with_one_mail_at_a_time(post: Post, sends: Sends) -> None:
    post.world.accept(*people(40))
    transport = Memory(sends=sends, batch_size=10, max_in_flight=8)
    senders = [post.sender(transport), post.sender(transport)]

    def tried(within_s: float) -> int:
        """How many mails are tried in so many seconds of the senders' time."""
        so_far = len(transport.sent)
        for _ in range(int(within_s * 5)):
            post.clock.ahead_us += 200_000  # less than a slot may be late
            for sender in senders:
                sender.step()
                until(partial(is_idle, sender))
                sender.step()
        return len(transport.sent) - so_far

    tried(3)
    assert tried(40) <= 4
    transport.sends = accepted
    more = post.world.accept(*people(100))
    tried(26)
    assert set(post.world.states(more)) == {State.SENT}


def test_a_throttled_answer_lowers_the_rate_once(post: Post) -> None:
    post.world.accept(*people(4))
    transport = Memory(sends=lambda mails: [Outcome(OutcomeKind.THROTTLED, "too fast")])
    sender = post.sender(transport, rate="100")

    def lesson() -> Lesson | None:
        state = post.world.store.transports.get("post")
        assert state is not None
        return state.lesson

    work(sender, lesson)
    learnt = lesson()
    assert learnt is not None
    assert learnt.rate == 100
    for _ in range(3):
        work(sender, lambda: sender.at_rest)
        post.clock.ahead_us += 26_000_000
        work(sender, partial(was_tried, transport, len(transport.sent) + 1))
    # What comes after a pause was not too fast.
    assert lesson() == learnt
