"""The hook as the API calls it: events are learnt, subscriptions confirmed, doubts passed on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs

import mailer_ses
import pytest
from mailer_ses.account import Account
from mailer_ses.settings import SesSettings
from mailer_ses.transport import SesTransport

from mailer.errors import ApprovalNeeded, InvalidRequest
from mailer.hookspecs import ProviderEvent
from mailer.settings import Settings
from mailer.testing import Callback, NotificationContract
from mailer.testing import envelope as mail_number
from mailer.vocabulary import EventType
from tests.ses.answering import Answering
from tests.ses.authority import Authority
from tests.ses.events import TOPIC_ARN, envelope, event, mail_object, now
from tests.ses.harness import FakeSes
from tests.ses.test_sns import confirmation
from tests.waiting import until


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.make(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def settings(authority: Authority) -> Settings:
    ours = SesSettings(topic_arns=(TOPIC_ARN,), cert_dir=authority.directory)
    return Settings(of_plugins={SesSettings: ours})


def notified(
    settings: Settings, body: Mapping[str, Any], **headers: str
) -> list[ProviderEvent] | None:
    told = mailer_ses.mailer_notifications(
        settings=settings, headers=headers, body=json.dumps(body).encode()
    )
    return None if told is None else list(told)


@pytest.fixture
def sns(aws: None, answering: Answering, monkeypatch: pytest.MonkeyPatch) -> Answering:
    """SNS's API, as far as it confirms subscriptions."""
    answering.answer = (
        b'<ConfirmSubscriptionResponse xmlns="http://sns.amazonaws.com/doc/2010-03-31/">'
        b"<ConfirmSubscriptionResult><SubscriptionArn>arn</SubscriptionArn>"
        b"</ConfirmSubscriptionResult></ConfirmSubscriptionResponse>"
    )
    monkeypatch.setenv("AWS_ENDPOINT_URL_SNS", answering.url)
    return answering


def test_what_was_sent_is_told_by_its_tag(
    ses_process: FakeSes, aws: None, account: Account, authority: Authority, settings: Settings,
    answering: Answering, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """From the call to SES, over its signed notifications, to the hook's events."""
    fake = FakeSes.start("--authority", str(authority.directory))
    try:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SESV2", fake.url)
        fake.told(events_url=answering.url)
        outcomes = SesTransport(account).open().send([mail_number(n) for n in range(10)])
        until(lambda: len(answering.posted) == 20)
    finally:
        fake.stop()

    told: list[ProviderEvent] = []
    for headers, body in answering.posted:
        events = mailer_ses.mailer_notifications(settings=settings, headers=headers, body=body)
        assert events is not None
        told += events
    expected = {
        (kind, f"contract-{n}", outcome.provider_id, f"user{n}@example.net")
        for n, outcome in enumerate(outcomes)
        for kind in (EventType.SENT, EventType.DELIVERY)
    }
    assert {(e.type, e.request_id, e.provider_id, e.recipient) for e in told} == expected


def test_a_bounce_keeps_its_original(settings: Settings, authority: Authority) -> None:
    about = mail_object("0107-1", "a@example.net", {"mailer_request_id": ["ab-1"]})
    payload = event("Bounce", about, bounce={"bounceType": "Permanent"})

    found = notified(settings, authority.sign(envelope(payload)))

    assert found
    assert (found[0].type, found[0].permanent, found[0].raw) == (EventType.BOUNCE, True, payload)


def test_a_replay_is_the_same_event(settings: Settings, authority: Authority) -> None:
    about = mail_object("0107-1", "a@example.net", {})
    body = authority.sign(envelope(event("Send", about, send={})))

    assert notified(settings, body) == notified(settings, body)


def test_callbacks_of_others_are_not_ours(settings: Settings) -> None:
    assert notified(settings, {"event": "delivered"}) is None


def test_without_settings_of_its_own_everything_of_sns_waits(authority: Authority) -> None:
    with pytest.raises(ApprovalNeeded, match="SNS_TOPIC_ARNS"):
        notified(Settings(of_plugins={SesSettings: SesSettings()}), authority.sign(envelope("x")))


def test_a_subscription_of_our_topic_is_confirmed(
    settings: Settings, authority: Authority, sns: Answering
) -> None:
    given = authority.sign(confirmation())

    assert notified(settings, given) == []

    ((headers, body),) = sns.posted
    asked = parse_qs(body.decode())
    assert asked["Action"] == ["ConfirmSubscription"]
    assert (asked["TopicArn"], asked["Token"]) == ([TOPIC_ARN], [given["Token"]])
    assert "authorization" not in headers


def test_another_topic_s_subscription_is_not(
    settings: Settings, authority: Authority, sns: Answering
) -> None:
    arn = TOPIC_ARN + "-2"
    other = confirmation(TopicArn=arn)
    other["SubscribeURL"] = other["SubscribeURL"].replace(TOPIC_ARN, arn)
    with pytest.raises(ApprovalNeeded, match="SNS_TOPIC_ARNS"):
        notified(settings, authority.sign(other))
    with pytest.raises(InvalidRequest, match="Signature"):
        notified(settings, {**authority.sign(confirmation()), "Signature": "AAAA"})

    assert sns.posted == []


@pytest.mark.parametrize(
    ("status", "code", "raises"),
    [
        (400, "InvalidParameter", InvalidRequest),
        (404, "NotFound", InvalidRequest),
        (400, "Throttling", OSError),
        (429, "Throttled", OSError),
        (500, "InternalError", OSError),
    ],
)
def test_sns_may_not_confirm(
    settings: Settings, authority: Authority, sns: Answering, status: int, code: str,
    raises: type[Exception],
) -> None:  # fmt: skip
    sns.status = status
    sns.answer = (
        f"<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>no</Message>"
        "</Error></ErrorResponse>"
    ).encode()

    with pytest.raises(raises, match=code):
        notified(settings, authority.sign(confirmation()))


def test_sns_out_of_reach_is_asked_again(
    settings: Settings, authority: Authority, sns: Answering
) -> None:
    sns.stop()
    with pytest.raises(OSError, match="can't be asked"):
        notified(settings, authority.sign(confirmation()))


def test_a_deleted_subscription_is_warned_of(
    settings: Settings, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    assert notified(settings, authority.sign(confirmation(Type="UnsubscribeConfirmation"))) == []
    assert TOPIC_ARN in caplog.text


class TestContract(NotificationContract):
    @pytest.fixture
    def plugin(self) -> object:
        return mailer_ses

    @pytest.fixture
    def genuine(self, authority: Authority) -> list[Callback]:
        about = mail_object("ses-1", "ann@example.org", {"mailer_request_id": ["contract-1"]})
        delivery = event("Delivery", about, delivery={"timestamp": now(), "recipients": []})
        click = event("Click", about, click={"timestamp": now(), "link": "https://example.org"})
        return [
            Callback(
                {"x-amz-sns-message-type": "Notification"},
                json.dumps(authority.sign(envelope(message))).encode(),
            )
            for message in (delivery, click)
        ]
