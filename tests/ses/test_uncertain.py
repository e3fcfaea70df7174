"""A mail that SES took while nobody heard its answer: it is known to be in doubt, never sent again
in silence, and settled by what SES tells of it, or by policy when it tells nothing.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.process.harness import Mailer, addresses
from tests.ses.authority import Authority
from tests.ses.events import TOPIC_ARN, envelope, event, mail_object
from tests.ses.harness import FakeSes
from tests.waiting import until

Start = Callable[..., Mailer]
NOTIFICATION = {"x-amz-sns-message-type": "Notification", "Content-Type": "text/plain"}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.make(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def listening(start: Start, ses: FakeSes, authority: Authority) -> Start:
    """Start mailer so that it believes this authority."""

    def run(**settings: str) -> Mailer:
        believes = {"SNS_TOPIC_ARNS": TOPIC_ARN, "SNS_CERT_DIR": str(authority.directory)}
        return start(ses.url, SENDERS="1", MAX_SEND_PER_SECOND="500", **believes, **settings)

    return run


def told(mailer: Mailer, authority: Authority, kind: str, mail: dict[str, Any], **more: Any) -> int:
    """Post an SES event of a mail that the fake took to the served API; the answer's status."""
    tags = {name: [value] for name, value in mail["tags"].items()}
    about = mail_object(mail["message_id"], mail["recipient"], tags)
    body = json.dumps(authority.sign(envelope(event(kind, about, **more))))
    return mailer.request("POST", "/v1/events/results", body, NOTIFICATION).status


def copies(ses: FakeSes) -> Counter[str]:
    return Counter(mail["tags"]["mailer_request_id"] for mail in ses.mails())


@pytest.mark.parametrize(
    ("fault", "policy"),
    [({"delay_s": 60}, "resend"), ({"cut": "after"}, "give_up")],
    ids=["sender killed, resend", "connection cut, give up"],
)
def test_an_answer_that_nobody_heard(
    ses: FakeSes, listening: Start, authority: Authority, tmp_path: Path, fault: dict[str, Any],
    policy: str,
) -> None:  # fmt: skip
    ses.told(faults=[fault])
    mailer = listening(UNCERTAIN_POLICY=policy, UNCERTAIN_GRACE_S="6")
    heard_of, silent = mailer.accepted("one@example.net", "two@example.net", lane="bulk")
    until(lambda: ses.count() == 2, within_s=30)
    if "delay_s" in fault:
        mailer.kill(mailer.senders()["sender 0"])
    until(lambda: mailer.states() == {"uncertain": 2})
    (mail,) = (one for one in ses.mails() if one["tags"]["mailer_request_id"] == heard_of)

    (tmp_path / "stranger").mkdir()
    stranger = Authority.make(tmp_path / "stranger")
    assert told(mailer, stranger, "Send", mail, send={}) == 403
    assert mailer.states() == {"uncertain": 2}
    assert told(mailer, authority, "Send", mail, send={}) == 200
    assert mailer.states() == {"uncertain": 1, "sent": 1}

    settled = {"sent": 2} if policy == "resend" else {"sent": 1, "failed": 1}
    until(lambda: mailer.states() == settled, within_s=15)
    assert copies(ses) == {heard_of: 1, silent: 2 if policy == "resend" else 1}
    assert mailer.uncertain_events() == {heard_of: 1, silent: 1}
    mailer.assert_sound()


def test_partial_answers_are_each_mail_s_own(
    ses: FakeSes, listening: Start, authority: Authority
) -> None:
    """Refused in the middle, fewer or more results than mails, one id twice, another order."""
    mailer = listening()

    def sent_with(fault: dict[str, Any]) -> tuple[list[str], list[dict[str, Any]]]:
        """Twenty mails in one call that is answered like this; their ids, and what was taken."""
        mailer.accepted("calm@example.net", lane="interactive")
        until(mailer.finished)
        ses.forget()
        ses.told(faults=[fault])
        ids = mailer.accepted(*addresses(20), lane="bulk")
        until(lambda: ses.count() >= 19)
        until(lambda: not {"pending", "sending"} & set(mailer.states()))
        assert ses.operations() == ["SendBulkEmail"]
        return ids, ses.mails()

    ids, taken = sent_with({"entries": {"3": "MESSAGE_REJECTED"}})
    assert mailer.get(f"/v1/mails/{ids[3]}").json["state"] == "failed"
    assert {mail["tags"]["mailer_request_id"] for mail in taken} == {*ids} - {ids[3]}

    for fault in ({"drop": 1}, {"add": 1}, {"same_ids": True}):
        ids, taken = sent_with(fault)
        assert mailer.states()["uncertain"] == 20
        assert {told(mailer, authority, "Send", mail, send={}) for mail in taken} == {200}
        assert "uncertain" not in mailer.states()
        assert copies(ses) == dict.fromkeys(ids, 1)

    ids, taken = sent_with({"reverse": True})
    bounce = {"bounceType": "Permanent", "bouncedRecipients": []}
    assert told(mailer, authority, "Bounce", taken[0], bounce=bounce) == 200
    bounced = taken[0]["tags"]["mailer_request_id"]  # by our tag, whatever id SES gave it
    assert mailer.get(f"/v1/mails/{bounced}").json["state"] == "bounced"
    assert copies(ses) == dict.fromkeys(ids, 1)
    assert set(mailer.states()) == {"sent", "failed", "bounced"}
