"""Each kind of event SES tells, in both families, and what mailer makes of it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from mailer_ses.events import translated

from mailer.hookspecs import ProviderEvent
from mailer.vocabulary import EventType

AT = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
MAIL: dict[str, Any] = {
    "timestamp": "2026-11-24T10:00:00.000Z",
    "messageId": "0107-1",
    "source": "shop@example.org",
    "destination": ["a@example.net"],
    "headers": [],
    "tags": {"mailer_request_id": ["abc-7"], "ses:source-ip": ["192.0.2.1"]},
}
TEN_MS = 1_795_514_400_000
TIME = "2026-11-24T10:00:05.250Z"


def told(family: str, kind: str, member: str, details: dict[str, Any]) -> list[ProviderEvent]:
    mail = MAIL if family == "eventType" else {k: v for k, v in MAIL.items() if k != "tags"}
    payload = json.dumps({family: kind, "mail": mail, member: details})
    return translated(payload, sns_message_id="sns-1", at=AT)


def bounce(kind: str, sub_type: str, **more: Any) -> dict[str, Any]:
    recipient = {"emailAddress": "a@example.net", "action": "failed", "status": "5.1.1",
                 "diagnosticCode": "smtp; 550 5.1.1 unknown"}  # fmt: skip
    return {
        "bounceType": kind, "bounceSubType": sub_type, "bouncedRecipients": [recipient],
        "timestamp": TIME, "feedbackId": "f-1", "reportingMTA": "dns; x", **more,
    }  # fmt: skip


def complaint(**more: Any) -> dict[str, Any]:
    return {
        "complainedRecipients": [{"emailAddress": "a@example.net"}],
        "timestamp": TIME, "feedbackId": "f-2", **more,
    }  # fmt: skip


KINDS: tuple[tuple[str, str, dict[str, Any], EventType, bool, str], ...] = (
    ("Send", "send", {}, EventType.SENT, False, ""),
    ("Delivery", "delivery",
     {"timestamp": TIME, "recipients": ["a@example.net"], "smtpResponse": "250 ok"},
     EventType.DELIVERY, False, "250 ok"),
    ("Bounce", "bounce", bounce("Permanent", "General"), EventType.BOUNCE, True, "550"),
    ("Bounce", "bounce", bounce("Permanent", "NoEmail"), EventType.BOUNCE, True, "NoEmail"),
    ("Bounce", "bounce", bounce("Permanent", "Suppressed"), EventType.BOUNCE, True, "Suppressed"),
    ("Bounce", "bounce", bounce("Permanent", "OnAccountSuppressionList"), EventType.BOUNCE, True,
     "OnAccountSuppressionList"),
    ("Bounce", "bounce", bounce("Transient", "MailboxFull"), EventType.BOUNCE, False, "Full"),
    ("Bounce", "bounce", bounce("Transient", "MessageTooLarge"), EventType.BOUNCE, False, "Large"),
    ("Bounce", "bounce", bounce("Transient", "ContentRejected"), EventType.BOUNCE, False, "Cont"),
    ("Bounce", "bounce", bounce("Transient", "AttachmentRejected"), EventType.BOUNCE, False, "A"),
    ("Bounce", "bounce", bounce("Undetermined", "Undetermined"), EventType.BOUNCE, False, "Un"),
    ("Complaint", "complaint", complaint(complaintFeedbackType="abuse"), EventType.COMPLAINT,
     False, "abuse"),
    ("Complaint", "complaint", complaint(complaintSubType="OnAccountSuppressionList"),
     EventType.COMPLAINT, False, "OnAccountSuppressionList"),
    ("Complaint", "complaint", complaint(complaintFeedbackType="not-spam"), EventType.OTHER,
     False, "not-spam"),
    ("Open", "open", {"timestamp": TIME, "userAgent": "Thunderbird"}, EventType.OPEN, False, ""),
    ("Click", "click", {"timestamp": TIME, "link": "https://example.org/"}, EventType.CLICK, False,
     "https://example.org/"),
    ("Reject", "reject", {"reason": "Bad content"}, EventType.REJECT, False, "Bad content"),
    ("Rendering Failure", "failure", {"errorMessage": "Attribute 'x'", "templateName": "inline"},
     EventType.REJECT, False, "Attribute 'x'"),
    ("DeliveryDelay", "deliveryDelay",
     {"timestamp": TIME, "delayType": "MailboxFull",
      "delayedRecipients": [{"emailAddress": "a@example.net", "status": "4.2.2"}]},
     EventType.DELAY, False, "MailboxFull 4.2.2"),
    ("Subscription", "subscription",
     {"timestamp": TIME, "newTopicPreferences": {"unsubscribeAll": True}}, EventType.UNSUBSCRIBE,
     False, ""),
    ("Subscription", "subscription",
     {"timestamp": TIME, "newTopicPreferences": {"unsubscribeAll": False}}, EventType.OTHER,
     False, ""),
    ("Quux", "quux", {"x": 1}, EventType.OTHER, False, ""),
)  # fmt: skip


@pytest.mark.parametrize("family", ["eventType", "notificationType"])
@pytest.mark.parametrize(
    ("kind", "member", "details", "event_type", "permanent", "says"),
    KINDS,
    ids=[f"{row[0]} {row[5]}" for row in KINDS],
)
def test_kinds(
    family: str, kind: str, member: str, details: dict[str, Any], event_type: EventType, says: str,
    *, permanent: bool,
) -> None:  # fmt: skip
    (event,) = told(family, kind, member, details)

    assert event.type is event_type
    assert event.permanent is permanent
    assert says in event.detail
    assert event.recipient == "a@example.net"
    assert event.provider_id == "0107-1"
    assert event.request_id == ("abc-7" if family == "eventType" else None)
    assert event.at_ms == TEN_MS + (5_250 if "timestamp" in details else 0)
    assert event.source == "ses"
    assert json.loads(event.raw)[family] == kind


def test_both_families_telling_the_same_is_one_event() -> None:
    for kind, member, details, event_type, *_ in KINDS:
        ids = {told(f, kind, member, details)[0].source_event_id
               for f in ("eventType", "notificationType")}  # fmt: skip
        assert len(ids) == 1 or event_type is EventType.OTHER


@pytest.mark.parametrize(
    ("kind", "member", "details", "refused"),
    [
        ("Bounce", "bounce", bounce("Permanent", "General"), False),
        ("Bounce", "bounce", bounce("Permanent", "Suppressed"), True),
        ("Bounce", "bounce", bounce("Permanent", "OnAccountSuppressionList"), True),
        ("Complaint", "complaint", complaint(complaintFeedbackType="abuse"), False),
        ("Complaint", "complaint", complaint(complaintSubType="OnAccountSuppressionList"), True),
    ],
)
def test_what_ses_s_own_lists_refused_is_told_apart(
    kind: str, member: str, details: dict[str, Any], refused: bool
) -> None:
    (event,) = told("eventType", kind, member, details)
    assert event.already_suppressed is refused


def test_a_bounce_of_several_is_an_event_for_each() -> None:
    both = [{"emailAddress": name} for name in ("a@example.net", "b@example.net")]
    events = told("eventType", "Bounce", "bounce", bounce("Permanent", "General") | {
        "bouncedRecipients": both})  # fmt: skip

    assert [event.recipient for event in events] == ["a@example.net", "b@example.net"]
    assert len({event.source_event_id for event in events}) == 2


def test_two_opens_are_two_events() -> None:
    first, second = (
        told("eventType", "Open", "open", {"timestamp": f"2026-11-24T10:00:0{n}.000Z"})[0]
        for n in (1, 2)
    )
    assert first.source_event_id != second.source_event_id


@pytest.mark.parametrize(
    ("details", "automated"),
    [
        ({"userAgent": "Mozilla/5.0"}, True),
        ({"userAgent": "Mozilla/5.0 (X11; Linux x86_64)"}, False),
        ({"isBot": True}, True),
        ({"isBot": "true"}, True),
        ({"isBot": False}, False),
        ({"automatedOpen": True}, True),
    ],
)
def test_automated_opens_and_clicks(details: dict[str, Any], *, automated: bool) -> None:
    for kind, member in (("Open", "open"), ("Click", "click")):
        (event,) = told("eventType", kind, member, {"timestamp": TIME, **details})
        assert event.automated is automated


@pytest.mark.parametrize(
    "payload",
    [
        "Successfully validated SNS topic for Amazon SES event publishing.",
        '{"notificationType":"AmazonSnsSubscriptionSucceeded","message":"You have subscribed"}',
        "",
        "null",
        "[1]",
        "[" * 100_000,
        '{"eventType":"Bounce"}',
        '{"eventType":"Bounce","mail":[]}',
        '{"eventType":["Bounce"],"mail":{"messageId":"x"}}',
        '{"AlarmName":"disk full"}',
    ],
)
def test_what_is_about_no_mail_is_no_event(payload: str) -> None:
    assert translated(payload, sns_message_id="sns-1", at=AT) == []


@pytest.mark.parametrize(
    "mail",
    [
        {"messageId": "x"},
        {"messageId": "x", "destination": "a", "timestamp": 5, "tags": []},
        {"messageId": "x", "tags": {"mailer_request_id": ["a", "b"]}, "timestamp": "yesterday"},
        {"messageId": "x", "tags": {"mailer_request_id": ["' OR 1=1"]}, "timestamp": "2026-11-24"},
    ],
)
def test_odd_payloads_are_taken_for_what_they_say(mail: dict[str, Any]) -> None:
    payload = json.dumps({"eventType": "Bounce", "mail": mail, "bounce": {"timestamp": None}})

    (event,) = translated(payload, sns_message_id="sns-1", at=AT)

    assert (event.type, event.request_id, event.permanent) == (EventType.BOUNCE, None, False)
    assert event.at_ms == int(AT.timestamp() * 1000)
