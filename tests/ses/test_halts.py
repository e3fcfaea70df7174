"""What stops sending as a whole, through the real processes: it is said, mail waits, it goes on."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.counts import FULL
from tests.process.harness import Mailer, addresses
from tests.ses.harness import FakeSes
from tests.waiting import until

Start = Callable[..., Mailer]

HALTS = [
    (400, "AccountSuspendedException", "suspended", "support centre"),
    (400, "SendingPausedException", "for configuration set x", "resume it in SES"),
    (400, "MailFromDomainNotVerifiedException", "no", "verify the From address"),
    (404, "NotFoundException", "Configuration set <x> does not exist.", "SES_CONFIGURATION_SET"),
    (403, "AccessDeniedException", "not authorized", "ses:SendRawEmail"),
    (403, "ExpiredTokenException", "expired", "AWS_ACCESS_KEY_ID"),
    (403, "RequestTimeTooSkewed", "skewed", "clock"),
]


@pytest.mark.parametrize(("status", "code", "words", "says"), HALTS if FULL else HALTS[:1])
def test_a_halt_is_said_and_ends_by_itself(
    ses: FakeSes, start: Start, status: int, code: str, words: str, says: str
) -> None:
    ses.told(faults=[{"status": status, "code": code, "message": words}] * 20)
    mailer = start(ses.url, SENDERS="1")
    mailer.accepted("one@example.net", "two@example.net")

    def reason() -> str:
        return str(
            mailer.rows("SELECT blocked_reason FROM transports WHERE transport = 'ses'")[0][0]
        )

    until(lambda: says in reason())
    mailer.accepted("three@example.net")  # the API takes mail all the while
    until(lambda: mailer.states() == {"pending": 3})
    assert mailer.rows("SELECT DISTINCT attempts FROM mails") == [(0,)]
    made = len(ses.calls())
    assert made <= 2  # in bulk, and perhaps one alone
    if FULL:  # a minute passes before it is tried again
        ses.told()
        until(mailer.finished, within_s=70)
        assert ses.count() == 3


def test_while_it_is_halted_mail_that_may_goes_by_another_transport(
    ses: FakeSes, start: Start
) -> None:
    status, code, words, says = HALTS[0]
    ses.told(faults=[{"status": status, "code": code, "message": words}] * 20)
    mailer = start(ses.url, SENDERS="1", TRANSPORT="ses,maildir", ROUTES="topic:ses/*=ses")
    mailer.accepted("one@example.net", "two@example.net")
    (kept,) = mailer.accepted("three@example.net", topic_id="ses/only")
    until(lambda: mailer.states() == {"sent": 2, "pending": 1})
    assert mailer.rows("SELECT count(*) FROM attempts WHERE transport <> 'maildir'") == [(0,)]
    assert len(list((mailer.directory / "maildir" / "new").iterdir())) == 2
    assert mailer.get(f"/v1/mails/{kept}").json["transport"] == "ses"
    way = mailer.way("ses")
    assert (way["condition"], way["goes_by"]) == ("halted", ["maildir"])
    assert says in way["reason"]


def test_the_end_of_the_quota_leaves_a_reserve_for_interactive_mail(
    ses: FakeSes, start: Start
) -> None:
    """Forty more today, of which four are not for bulk; SES never has to say no."""
    ses.told(max_24h=100.0, sent_24h=60.0)
    mailer = start(ses.url, INTERACTIVE_RESERVE="4%", MAX_SEND_PER_SECOND="200")
    quota = "SELECT max_24h FROM transports WHERE transport = 'ses'"
    until(lambda: mailer.rows(quota) == [(100,)], within_s=30)
    mailer.accepted(*addresses(50), lane="bulk")
    until(lambda: mailer.states() == {"sent": 36, "pending": 14})
    mailer.accepted(*addresses(6, "urgent"), lane="interactive")
    until(lambda: mailer.states() == {"sent": 40, "pending": 16})
    urgent = [mail for mail in ses.mails() if mail["recipient"].startswith("urgent")]
    assert len(urgent) == 4
    assert not any(call["throttled"] for call in ses.calls())
