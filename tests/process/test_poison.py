"""Mails and transports that are poison: neither loses mail, and each is known for what it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from mailer.retry import CRASHES_TO_GIVE_UP
from tests import weakened
from tests.counts import FULL
from tests.process.harness import Mailer, addresses
from tests.waiting import until

Start = Callable[..., Mailer]


@pytest.mark.parametrize("how", ["exit", "crash"] if FULL else ["exit"])
def test_a_poison_mail_is_given_up_and_harms_no_other(start: Start, how: str) -> None:
    mailer = start(MAX_SEND_PER_SECOND="100")
    mails = mailer.accepted(*addresses(300, "before"))
    (poison,) = mailer.accepted(f"{how}@example.com", topic_id="poison")
    mails += mailer.accepted(*addresses(300, "behind"))
    until(mailer.finished, within_s=60)
    calls = Counter(call.request_id for call in mailer.hand_overs())
    uncertain = mailer.uncertain_events()
    assert calls.pop(poison) == CRASHES_TO_GIVE_UP
    assert uncertain.pop(poison) == CRASHES_TO_GIVE_UP
    assert mailer.log.count("ended with status") == CRASHES_TO_GIVE_UP
    history = mailer.get(f"/v1/mails/{poison}").json
    assert history["state"] == "failed"
    assert history["detail"] == f"its hand-over ended the sender process {CRASHES_TO_GIVE_UP} times"
    # The others: once each, and again only what was in flight beside it the first time.
    assert set(calls) == set(mails)
    assert {mail for mail, count in calls.items() if count > 1} <= set(uncertain)
    assert max(calls.values()) <= 2
    assert len(uncertain) < 16
    assert mailer.states() == {"sent": len(mails), "failed": 1}
    mailer.assert_sound()


def test_control_a_mail_that_harms_nobody_ends_no_sender(start: Start) -> None:
    mailer = start(MAX_SEND_PER_SECOND="100")
    mailer.accepted("quiet@example.com", *addresses(100))
    until(mailer.finished, within_s=10)
    assert "ended with status" not in mailer.log
    assert mailer.states() == {"sent": 101}


def test_control_without_the_count_it_ends_senders_for_ever(start: Start) -> None:
    mailer = start(without=weakened.crash_count)
    (poison,) = mailer.accepted("exit@example.com")
    until(lambda: len(mailer.hand_overs()) > CRASHES_TO_GIVE_UP, within_s=30)
    assert {call.request_id for call in mailer.hand_overs()} == {poison}
    assert mailer.log.count("ended with status") >= CRASHES_TO_GIVE_UP
    assert "failed" not in mailer.states()


def test_several_poison_mails_at_once(start: Start) -> None:
    mailer = start(MAX_SEND_PER_SECOND="100")
    poison = []
    for how in ("exit", "crash"):
        poison += mailer.accepted(f"{how}@example.com", topic_id=f"poison/{how}")
    mails = mailer.accepted(*addresses(100))
    until(mailer.finished, within_s=90)
    calls = Counter(call.request_id for call in mailer.hand_overs())
    assert all(calls[mail] == CRASHES_TO_GIVE_UP for mail in poison)
    assert mailer.states() == {"sent": len(mails), "failed": len(poison)}
    mailer.assert_sound()


POISON = {
    "raise": "the transport raised RuntimeError",
    "none": "the transport gave 0 outcomes for 1 mails",
    "never": "the transport did not answer in the time it promised",
}


NAMED_IN_LOG = {"raise": "unexpected RuntimeError in transport recorder"}


def poisoned(start: Start, how: str, policy: str) -> tuple[Mailer, list[str]]:
    """A mailer whose transport breaks its contract, as all know by now, and its mails."""
    mailer = start(
        behaviour={"answer": how, "call_timeout_s": 0.5},
        UNCERTAIN_POLICY=policy,
        MAX_SEND_PER_SECOND="50",
    )
    mails = mailer.accepted(*addresses(40))
    until(lambda: mailer.rows("SELECT 1 FROM transports WHERE blocked_reason <> ''"))
    return mailer, mails


def mended(mailer: Mailer) -> None:
    """The transport keeps its contract from now on, until all mail has found its end."""
    mailer.behave()
    until(mailer.finished, within_s=60)
    mailer.assert_sound()


@pytest.mark.parametrize("how", POISON)
def test_a_poison_transport_loses_no_mail_sends_none_twice_and_is_named(
    start: Start, how: str
) -> None:
    mailer, mails = poisoned(start, how, "give_up")
    until(lambda: mailer.way("recorder")["reason"] == POISON[how], within_s=20)
    mended(mailer)
    calls = Counter(call.request_id for call in mailer.hand_overs())
    assert calls == Counter(mails)
    uncertain = mailer.uncertain_events()
    assert 0 < len(uncertain) < 40
    assert mailer.states() == {"sent": 40 - len(uncertain), "failed": len(uncertain)}
    history = mailer.get(f"/v1/mails/{next(iter(uncertain))}").json
    told = {(event["source"], event["detail"]) for event in history["events"]}
    assert ("recorder", POISON[how]) in told
    assert NAMED_IN_LOG.get(how, f"recorder: {POISON[how]}") in mailer.log
    assert "hunter2" not in mailer.log


def test_control_what_was_poisoned_is_sent_again_if_that_is_the_policy(start: Start) -> None:
    mailer, mails = poisoned(start, "raise", "resend")
    mended(mailer)
    calls = Counter(call.request_id for call in mailer.hand_overs())
    twice = {mail for mail, count in calls.items() if count > 1}
    assert twice
    assert twice <= set(mailer.uncertain_events())  # on a busy machine also before its call
    assert mailer.states() == {"sent": len(mails)}
