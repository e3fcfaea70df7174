"""Two transports, one of them halted: mail goes by the other, and what may be taken stays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import weakened
from tests.process.harness import Mailer, Recording, addresses
from tests.waiting import until

Start = Callable[..., Mailer]

MAILS = 500
HALTED = {"outcome": "throttled", "halts": True}


@pytest.fixture
def second(tmp_path: Path) -> Recording:
    return Recording(tmp_path / "second", {"delay_ms": 50})


def both(second: Recording) -> dict[str, str]:
    return {"TRANSPORT": "recorder,second", "SECOND_RECORDER": str(second.directory)}


def taken_by(mailer: Mailer, transport: str) -> set[str]:
    """The mails a transport took, as the attempts on record have it."""
    rows = mailer.rows(
        "SELECT b.batch_id || '-' || (m.id - b.id) FROM attempts a JOIN mails m ON m.id = a.mail"
        " JOIN batches b ON b.id = m.batch WHERE a.outcome = 'accepted' AND a.transport = ?",
        transport,
    )
    return {mail for (mail,) in rows}


def test_a_halt_with_a_killed_sender_loses_nothing_and_ends_by_itself(
    start: Start, second: Recording
) -> None:
    mailer = start(behaviour=HALTED, MAX_SEND_PER_SECOND="100", **both(second))
    mails = mailer.accepted(*addresses(MAILS), topic_id="news")
    until(lambda: len(second.hand_overs()) > 50)
    mailer.kill(mailer.senders()["sender 1"])
    so_far = len(second.hand_overs())
    until(lambda: len(second.hand_overs()) > so_far + 50)
    way = mailer.way("recorder")
    assert (way["condition"], way["reason"], way["goes_by"]) == ("halted", "as told", ["second"])
    mailer.behave()
    until(lambda: taken_by(mailer, "recorder"), within_s=30)
    until(mailer.finished, within_s=30)
    told = "SELECT detail FROM events WHERE type = 'other' AND source = 'recorder' ORDER BY id"
    until(lambda: len(mailer.rows(told)) == 2)
    assert [words for (words,) in mailer.rows(told)] == [
        "recorder takes no mail: as told; mail that may goes by second",
        "mail of recorder goes by second no more",
    ]
    assert "recorder takes no mail; mail that may goes by second" in mailer.log

    by_first, by_second = taken_by(mailer, "recorder"), taken_by(mailer, "second")
    uncertain = set(mailer.uncertain_events())
    assert mailer.states() == {"sent": MAILS}
    assert (by_first | by_second, by_first & by_second) == (set(mails), set())
    assert by_first <= {call.request_id for call in mailer.hand_overs()}
    calls = Counter(call.request_id for call in second.hand_overs())
    assert {mail for mail, count in calls.items() if count > 1} <= uncertain
    assert set(calls) == by_second
    assert len(uncertain) <= 16
    mail = mailer.get(f"/v1/mails/{min(by_second)}").json
    assert mail["transport"] == mail["attempts"][-1]["transport"] == "second"
    mailer.assert_sound()


def killed_in_flight(
    start: Start, second: Recording, without: weakened.Protection | None
) -> tuple[Mailer, str]:
    """A mail that the first transport was called with, before it was halted; the sender is dead."""
    mailer = start(behaviour={"delay_ms": 60_000}, SENDERS="1", without=without, **both(second))
    (mail,) = mailer.accepted("ann@example.com")
    until(mailer.hand_overs)
    mailer.behave(**HALTED)
    mailer.kill(mailer.senders()["sender 0"])
    until(mailer.uncertain_events)
    until(lambda: len(mailer.hand_overs()) == 2)  # tried with it, once it is settled
    return mailer, mail


def test_what_the_first_may_have_taken_is_never_given_to_the_other(
    start: Start, second: Recording
) -> None:
    mailer, mail = killed_in_flight(start, second, None)
    (other,) = mailer.accepted("bob@example.com")
    until(second.hand_overs)
    mailer.behave()
    until(mailer.finished, within_s=20)
    assert [call.request_id for call in second.hand_overs()] == [other]
    assert taken_by(mailer, "recorder") == {mail}


def test_control_without_that_rule_the_other_gets_it(start: Start, second: Recording) -> None:
    _, mail = killed_in_flight(start, second, weakened.loyalty)
    until(second.hand_overs)
    assert [call.request_id for call in second.hand_overs()] == [mail]
