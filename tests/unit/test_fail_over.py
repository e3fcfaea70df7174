"""Mail goes by the next transport while the preferred one is out of service, and comes back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest

from mailer.detours import Detours, warn_of_stranded
from mailer.errors import TransportHalted, TransportUnreachable
from mailer.hookspecs import Envelope, Outcome
from mailer.routing import Ways
from mailer.sender import Sender
from mailer.vocabulary import Condition, EventType, OutcomeKind, State
from tests.store.world import people
from tests.unit.memory import Memory, Post, accepted, raising, work

WAY = "post,other"
AFTER_MS = 300_000


def halting(mails: Sequence[Envelope]) -> list[Outcome]:
    return [Outcome(OutcomeKind.THROTTLED, "verify it", retry_after_s=60, halts=True)] * len(mails)


def refusing(error: Exception) -> Callable[[], object]:
    def opens() -> object:
        raise error

    return opens


@dataclass
class Pair:
    """Two transports, one sender, and the duty that tells."""

    post: Post
    first: Memory = field(default_factory=Memory)
    second: Memory = field(default_factory=Memory)

    def __post_init__(self) -> None:
        self.sender: Sender = self.post.sender(
            self.first, others={"other": self.second}, TRANSPORT=WAY
        )
        with self.post.world.store.write():
            self.post.world.store.transports.register("other", reports_events=False)
        self.detours = Detours(Ways(("post", "other")), AFTER_MS)

    def send(self, count: int = 1) -> list[str]:
        """Mail that has the choice, sent."""
        ids = self.post.world.accept(*people(count), transport=WAY)
        self.post.step_until(self.sender, ids, State.SENT)
        work(self.sender, lambda: self.sender.at_rest)
        return ids

    def look(self) -> None:
        self.detours.look(self.post.world.store, self.post.clock.wall_ms())

    def told(self) -> list[str]:
        page = self.post.world.store.log.page(0, limit=1000, type_=EventType.OTHER)
        return [event.detail for event in page.events]

    def condition(self) -> Condition:
        state = self.post.world.store.transports.get("post")
        assert state is not None
        return state.condition(self.post.clock.mono_us())

    def pass_s(self, seconds: float) -> None:
        """For the pauses of transports."""
        self.post.clock.ahead_us += int(seconds * 1_000_000)


@pytest.fixture
def pair(post: Post) -> Pair:
    return Pair(post)


def test_a_halt_sends_waiting_mail_by_the_next_and_its_end_brings_it_back(pair: Pair) -> None:
    pair.first.sends = halting
    ids = pair.send(20)
    assert pair.condition() is Condition.HALTED
    assert Counter(pair.second.sent) == Counter(ids)
    refused = set(pair.first.sent)
    assert {pair.post.world.mail(mail).transport for mail in ids} == {"other"}
    pair.look()
    assert pair.told() == ["post takes no mail: verify it; mail that may goes by other"]
    pair.first.sends = accepted
    pair.pass_s(61)
    work(pair.sender, lambda: pair.sender.sessions[0].idle)
    later = pair.send(20)
    assert set(pair.first.sent) - refused
    assert pair.condition() is Condition.WORKING
    assert not set(pair.first.sent[len(refused) :]) & set(pair.second.sent)
    pair.look()
    assert pair.told()[1:] == ["mail of post goes by other no more"]
    assert set(pair.send(5)) <= set(pair.first.sent)
    assert pair.post.world.states(later) == [State.SENT] * 20


def test_mail_named_for_the_halted_one_waits_for_it(pair: Pair) -> None:
    pair.first.sends = halting
    pair.send()
    (named,) = pair.post.world.accept("ann@example.org")
    pair.send(3)
    assert pair.post.world.state(named) is State.PENDING
    assert named not in pair.second.sent


def test_a_halted_one_is_tried_with_each_mail_that_comes_once_its_pause_is_over(
    pair: Pair,
) -> None:
    """Though that mail need not wait for it."""
    pair.first.sends = halting
    pair.send()
    for tried in (1, 2, 3):
        assert len(pair.first.sent) == tried
        pair.send()
        assert len(pair.first.sent) == tried
        pair.pass_s(61)
        work(pair.sender, lambda: pair.sender.sessions[0].idle)
        pair.send()


def test_one_out_of_reach_is_passed_over_after_a_while_and_found_again(pair: Pair) -> None:
    pair.first.opens = refusing(TransportUnreachable("no route"))
    (mail,) = pair.post.world.accept("ann@example.org", transport=WAY)
    work(pair.sender, lambda: pair.condition() is Condition.UNREACHABLE)
    pair.detours.look(pair.post.world.store, pair.post.clock.wall_ms() - AFTER_MS + 60_000)
    for _ in range(20):
        assert pair.sender.step() == 0
    assert (pair.post.world.state(mail), pair.told()) == (State.PENDING, [])
    with pair.post.world.store.write():
        pair.post.world.store.transports.note_reached("post")
        pair.post.world.store.transports.note_unreachable("post", "no route")
        pair.post.world.store.transports.note_trouble(pair.post.clock.wall_ms() - AFTER_MS)
    pair.post.step_until(pair.sender, [mail], State.SENT)
    assert pair.second.sent == [mail]
    pair.look()
    assert pair.told() == ["post takes no mail: no route; mail that may goes by other"]
    pair.first.opens = bool
    pair.pass_s(30)
    work(pair.sender, lambda: pair.condition() is Condition.WORKING)
    assert pair.send() == pair.first.sent


def test_one_that_says_so_when_it_is_opened_is_passed_over_at_once(pair: Pair) -> None:
    pair.first.opens = refusing(TransportHalted("535 wrong password"))
    ids = pair.send(3)
    assert set(pair.second.sent) == set(ids)
    assert pair.condition() is Condition.HALTED
    pair.first.opens = bool
    with pair.post.world.store.write():
        pair.post.world.store.transports.end_halt("post")
    pair.pass_s(30)
    work(pair.sender, lambda: pair.sender.sessions[0].idle)
    assert pair.send() == pair.first.sent


def test_what_the_first_may_have_taken_is_not_sent_by_the_next(pair: Pair) -> None:
    pair.first.sends = raising(ValueError())
    (mail,) = pair.post.world.accept("ann@example.org", transport=WAY)
    pair.post.step_until(pair.sender, [mail], State.UNCERTAIN)
    with pair.post.world.store.write():
        transports = pair.post.world.store.transports
        transports.block("post", 2**60, "suspended", halted_at_ms=1)
        pair.post.world.store.outcomes.settle(now_ms=2**50, step=10)
    pair.send(3)
    assert pair.post.world.state(mail) is State.PENDING
    assert mail not in pair.second.sent


def test_when_none_works_mail_waits_and_goes_by_the_first_that_does(pair: Pair) -> None:
    pair.first.sends = pair.second.sends = halting
    (mail,) = pair.post.world.accept("ann@example.org", transport=WAY)
    work(pair.sender, lambda: pair.second.sent)
    work(pair.sender, lambda: pair.sender.at_rest)
    assert pair.post.world.state(mail) is State.PENDING
    pair.second.sends = accepted
    pair.pass_s(61)
    pair.post.step_until(pair.sender, [mail], State.SENT)
    assert pair.post.world.mail(mail).transport == "other"


def test_mail_of_a_transport_that_was_taken_away_is_named_at_the_start(
    post: Post, caplog: pytest.LogCaptureFixture
) -> None:
    for way in ("gone@example.org", "post,gone", "other"):
        post.world.accept(*people(2), transport=way)
    warn_of_stranded(post.world.store, {"post", "other"})
    (said,) = caplog.messages
    assert said.startswith("2 mails wait for gone, which is not configured here")


def test_a_second_transport_keeps_a_rate_of_its_own(post: Post) -> None:
    first, second = Memory(), Memory()
    sender = post.sender(first, others={"other": second}, rate="2")
    ids = [*post.world.accept(*people(2)), *post.world.accept(*people(2), transport="other")]
    post.step_until(sender, ids, State.SENT)
    assert (sorted(first.sent), sorted(second.sent)) == (ids[:2], ids[2:])
    used = [post.world.store.slots.used_since(name, 0) for name in ("post", "other")]
    assert used == [2, 2]
