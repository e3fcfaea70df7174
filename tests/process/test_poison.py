"""A mail that ends its sender each time is given up after three, and harms no other."""

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
