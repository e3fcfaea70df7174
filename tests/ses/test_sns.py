"""Only what SNS signed for a topic of ours is believed: forgeries are refused before any fetch."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from mailer_ses import sns
from mailer_ses.certificates import Certificates

from mailer.errors import ApprovalNeeded, InvalidRequest
from tests.ses.authority import GOOD, Authority
from tests.ses.events import TOPIC_ARN, envelope

OURS = (
    TOPIC_ARN,
    "arn:aws-cn:sns:cn-north-1:123456789012:ses",
    "arn:aws:sns:us-east-1:123456789012:x.fifo",
)
HOST = "sns.eu-central-1.amazonaws.com"
CERT_URL = f"https://{HOST}/{GOOD}"
Changed = Callable[[dict[str, Any]], dict[str, Any]]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.make(tmp_path_factory.mktemp("authority"))


class Keys:
    """Our authority's keys, and a record of what was asked for."""

    def __init__(self, authority: Authority, now: datetime) -> None:
        self._certificates = Certificates(authority.directory)
        self._now = now
        self.asked: list[str] = []

    def __call__(self, topic: sns.Topic, file: str) -> rsa.RSAPublicKey:
        self.asked.append(file)
        return self._certificates.key(topic, file, self._now)


def verify(
    authority: Authority,
    body: dict[str, Any] | bytes,
    headers: dict[str, str] | None = None,
    *,
    arns: tuple[str, ...] = OURS,
    now: datetime | None = None,
) -> tuple[tuple[sns.Message, sns.Topic] | None, list[str]]:
    now = now or datetime.now(UTC)
    keys = Keys(authority, now)
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    try:
        found = sns.verified(headers or {}, raw, topic_arns=arns, key_of=keys, now=now)
    except InvalidRequest as error:
        error.args = (*error.args, keys.asked)
        raise
    return found, keys.asked


def confirmation(**changes: str) -> dict[str, Any]:
    token = "a" * 128
    query = f"Action=ConfirmSubscription&TopicArn={TOPIC_ARN}&Token={token}"
    url = f"https://{HOST}/?{query}"
    told = {"Type": sns.CONFIRMATION, "Token": token, "SubscribeURL": url}
    return envelope("You have chosen to subscribe …", **(told | changes))


@pytest.mark.parametrize("version", ["1", "2"])
@pytest.mark.parametrize(
    "given",
    [
        envelope("hello"),
        envelope('{"a": "ü\n\\"😀\u2028"}', Subject="Amazon SES Email Event Notification"),
        envelope("", Subject=""),
        confirmation(),
        confirmation(Type=sns.FAREWELL),
    ],
    ids=["plain", "subject", "empty", "confirmation", "farewell"],
)
def test_what_sns_signed_is_believed(
    authority: Authority, given: dict[str, Any], version: str
) -> None:
    given = {**given, "UnsubscribeURL": "https://evil.test/", "MessageAttributes": {}}

    found, _ = verify(
        authority, authority.sign(given, version), {"x-amz-sns-message-type": given["Type"]}
    )

    assert found
    assert found[0].message == given["Message"]


def test_the_header_need_not_be_there(authority: Authority) -> None:
    found, _ = verify(authority, authority.sign(envelope("x")))
    assert found


@pytest.mark.parametrize(
    ("body", "headers"),
    [(b"", {}), (b"{}", {}), (b"[]", {}), (b"\xff", {}), (b'{"Type":1}', {}), (b"x" * 400_000, {}),
     (b"[" * 100_000, {}), (b'{"event":"delivered"}', {"x-other": "1"})],
)  # fmt: skip
def test_other_providers_callbacks_are_left_to_their_plugins(
    authority: Authority, body: bytes, headers: dict[str, str]
) -> None:
    assert verify(authority, body, headers) == (None, [])


def change(**fields: Any) -> Changed:
    """Change fields after signing; None leaves one out."""
    return lambda body: {k: v for k, v in (body | fields).items() if v is not None}


def cert_url(url: str) -> Changed:
    return change(SigningCertURL=url)


def moved(delta: timedelta) -> str:
    moment = datetime.now(UTC) + delta
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


SIGNED_BUT_WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a topic of somebody else's": (
        envelope("x", TopicArn=TOPIC_ARN.replace("123456789012", "999999999999")), "TopicArn"),
    "a longer name": (envelope("x", TopicArn=TOPIC_ARN + "2"), "TopicArn"),
    "an ARN of no topic": (envelope("x", TopicArn="arn:aws:sqs:eu-central-1:123456789012:q"),
                           "TopicArn"),
    "a region that is a host": (
        envelope("x", TopicArn="arn:aws:sns:evil.test/x:123456789012:ses"), "TopicArn"),
    "a region in the wrong partition": (
        envelope("x", TopicArn="arn:aws:sns:cn-north-1:123456789012:ses"), "TopicArn"),
    "China's partition elsewhere": (
        envelope("x", TopicArn="arn:aws-cn:sns:eu-central-1:123456789012:ses"), "TopicArn"),
    "a type SNS has not": (envelope("x", Type="Publication"), "Type"),
    "a stale timestamp": (envelope("x", Timestamp=moved(timedelta(hours=-3))), "Timestamp"),
    "a timestamp to come": (envelope("x", Timestamp=moved(timedelta(hours=1))), "Timestamp"),
    "a time without a zone": (envelope("x", Timestamp="2026-11-24T10:00:00.000"), "Timestamp"),
    "a time of another form": (envelope("x", Timestamp="24 Nov 2026"), "Timestamp"),
    "a confirmation elsewhere": (confirmation(SubscribeURL="https://evil.test/?x"), "SubscribeURL"),
    "a confirmation by http": (
        confirmation(SubscribeURL=confirmation()["SubscribeURL"].replace("https", "http")),
        "SubscribeURL"),
    "a confirmation with user-info": (
        confirmation(SubscribeURL=f"https://{HOST}@evil.test/?Action=ConfirmSubscription"),
        "SubscribeURL"),
    "a confirmation of another topic": (
        confirmation(SubscribeURL=confirmation()["SubscribeURL"].replace("ses-events", "other")),
        "SubscribeURL"),
    "a confirmation with another token": (confirmation(Token="b"), "SubscribeURL"),
    "another action": (
        confirmation(SubscribeURL=confirmation()["SubscribeURL"].replace("Confirm", "Delete")),
        "SubscribeURL"),
    "an action more": (
        confirmation(SubscribeURL=confirmation()["SubscribeURL"] + "&Action=Publish"),
        "SubscribeURL"),
    "a confirmation without token": (confirmation(Token=""), "Token"),
}  # fmt: skip

CHANGED: dict[str, tuple[Changed, str]] = {
    "another host": (cert_url(f"https://evil.test/{GOOD}"), "SigningCertURL"),
    "our host as a prefix": (cert_url(f"https://{HOST}.evil.test/{GOOD}"), "SigningCertURL"),
    "our host as user": (cert_url(f"https://{HOST}@evil.test/{GOOD}"), "SigningCertURL"),
    "a user at our host": (cert_url(f"https://u:p@{HOST}/{GOOD}"), "SigningCertURL"),
    "a port": (cert_url(f"https://{HOST}:443/{GOOD}"), "SigningCertURL"),
    "another port": (cert_url(f"https://{HOST}:8443/{GOOD}"), "SigningCertURL"),
    "http": (cert_url(f"http://{HOST}/{GOOD}"), "SigningCertURL"),
    "no scheme": (cert_url(f"//{HOST}/{GOOD}"), "SigningCertURL"),
    "file": (cert_url(f"file:///etc/{GOOD}"), "SigningCertURL"),
    "upper case": (cert_url(f"HTTPS://{HOST.upper()}/{GOOD}"), "SigningCertURL"),
    "unicode dots": (cert_url(f"https://{HOST.replace('.', '。')}/{GOOD}"), "SigningCertURL"),
    "a trailing dot": (cert_url(f"https://{HOST}./{GOOD}"), "SigningCertURL"),
    "another region's": (
        cert_url(f"https://sns.us-east-1.amazonaws.com/{GOOD}"), "SigningCertURL"),
    "a bucket that looks like it": (
        cert_url(f"https://sns.eu-central-1.s3.amazonaws.com/{GOOD}"), "SigningCertURL"),
    "China's domain": (cert_url(f"https://{HOST}.cn/{GOOD}"), "SigningCertURL"),
    "another path": (cert_url(f"https://{HOST}/x/{GOOD}"), "SigningCertURL"),
    "a path upwards": (cert_url(f"https://{HOST}/../{GOOD}"), "SigningCertURL"),
    "an encoded path": (cert_url(f"https://{HOST}/%2e%2e/{GOOD}"), "SigningCertURL"),
    "two slashes": (cert_url(f"https://{HOST}//{GOOD}"), "SigningCertURL"),
    "a backslash": (cert_url(f"https://{HOST}\\@evil.test/{GOOD}"), "SigningCertURL"),
    "a query": (cert_url(f"{CERT_URL}?x"), "SigningCertURL"),
    "a fragment": (cert_url(f"{CERT_URL}#x"), "SigningCertURL"),
    "a line break": (cert_url(f"{CERT_URL}\n"), "SigningCertURL"),
    "a space before": (cert_url(f" {CERT_URL}"), "SigningCertURL"),
    "another file": (cert_url(f"https://{HOST}/other.pem"), "SigningCertURL"),
    "no certificate named": (cert_url(""), "SigningCertURL"),
    "no certificate URL": (change(SigningCertURL=None), "body"),
    "no signature": (change(Signature=None), "body"),
    "no message": (change(Message=None), "body"),
    "no topic": (change(TopicArn=None), "body"),
    "a number for a text": (change(MessageId=1), "body"),
}  # fmt: skip

BADLY_SIGNED: dict[str, tuple[Changed, str]] = {
    "another message": (change(Message="y"), "Signature"),
    "another id": (change(MessageId="y"), "Signature"),
    "another time": (change(Timestamp=moved(timedelta(minutes=-1))), "Signature"),
    "another of our topics": (
        lambda body: {**body, "TopicArn": TOPIC_ARN + ".fifo"}, "Signature"),
    "a subject added": (change(Subject="y"), "Signature"),
    "another type": (
        lambda body: {**confirmation(), **body, "Type": sns.CONFIRMATION}, "Signature"),
    "fields run together": (change(Message="x\nMessageId\ny"), "Signature"),
    "an empty signature": (change(Signature=""), "Signature"),
    "no base64": (change(Signature="?" * 344), "Signature"),
    "a cut signature": (lambda body: {**body, "Signature": body["Signature"][:-4]}, "Signature"),
    "zeros": (change(Signature=base64.b64encode(bytes(256)).decode()), "Signature"),
    "version 2 called 1": (change(SignatureVersion="1"), "Signature"),
    "a version to come": (change(SignatureVersion="3"), "SignatureVersion"),
    "no version": (change(SignatureVersion=""), "SignatureVersion"),
}  # fmt: skip


def refused(
    authority: Authority,
    body: dict[str, Any] | bytes,
    field: str,
    headers: dict[str, str] | None = None,
    **how: Any,
) -> list[str]:
    """Assert that it is refused for this field; the certificates that were asked for."""
    with pytest.raises(InvalidRequest) as raised:
        verify(authority, body, headers, **how)
    assert raised.value.faults[0].path == field, raised.value
    asked: list[str] = raised.value.args[-1]
    return asked


@pytest.mark.parametrize("name", SIGNED_BUT_WRONG)
def test_a_good_signature_is_not_enough(authority: Authority, name: str) -> None:
    body, field = SIGNED_BUT_WRONG[name]
    arns = (*OURS, body["TopicArn"]) if "partition" in name or "region" in name else OURS
    assert refused(authority, authority.sign(body), field, arns=arns) == []


@pytest.mark.parametrize("name", CHANGED)
def test_forgeries_are_refused_before_a_certificate_is_asked_for(
    authority: Authority, name: str
) -> None:
    changed, field = CHANGED[name]
    headers = {"x-amz-sns-message-type": sns.NOTIFICATION}
    assert refused(authority, changed(authority.sign(envelope("x"))), field, headers) == []


@pytest.mark.parametrize("name", BADLY_SIGNED)
def test_forgeries_that_take_the_key_to_find(authority: Authority, name: str) -> None:
    changed, field = BADLY_SIGNED[name]
    arns = (*OURS, TOPIC_ARN + ".fifo")
    refused(authority, changed(authority.sign(envelope("x"))), field, arns=arns)


def test_version_1_called_2(authority: Authority) -> None:
    body = {**authority.sign(envelope("x"), "1"), "SignatureVersion": "2"}
    refused(authority, body, "Signature")


def test_signed_by_another_key(
    authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> None:
    stranger = Authority.make(tmp_path_factory.mktemp("stranger"))
    refused(authority, stranger.sign(envelope("x")), "Signature")


@pytest.mark.parametrize(
    ("body", "headers", "field"),
    [
        (b"{}", {"x-amz-sns-message-type": "Notification"}, "body"),
        (b"\xff{", {"x-amz-sns-message-type": "Notification"}, "body"),
        (b"[" * 100_000, {"x-amz-sns-message-type": "Notification"}, "body"),
        (b" " * 2_000_000, {"x-amz-sns-message-type": "Notification"}, "body"),
        (b"{}", {"x-amz-sns-rawdelivery": "true"}, "x-amz-sns-rawdelivery"),
    ],
    ids=["empty", "no UTF-8", "deep", "2 MB", "raw delivery"],
)
def test_bodies_that_only_claim_to_be_sns_s(
    authority: Authority, body: bytes, headers: dict[str, str], field: str
) -> None:
    assert refused(authority, body, field, headers) == []


def test_header_and_body_must_agree(authority: Authority) -> None:
    headers = {"x-amz-sns-message-type": sns.CONFIRMATION}
    assert refused(authority, authority.sign(envelope("x")), "Type", headers) == []


@pytest.mark.parametrize("given", [confirmation(), envelope("x")], ids=["confirmation", "event"])
def test_while_no_topic_is_named_everything_waits(
    authority: Authority, given: dict[str, Any]
) -> None:
    """SNS is told to come again, and the operator what to set."""
    with pytest.raises(ApprovalNeeded, match=f"SNS_TOPIC_ARNS={TOPIC_ARN} ") as caught:
        verify(authority, authority.sign(given), arns=())

    assert (caught.value.setting, caught.value.value) == ("SNS_TOPIC_ARNS", TOPIC_ARN)


def test_the_setting_to_write_keeps_the_topics_that_are_there(authority: Authority) -> None:
    arn = f"{TOPIC_ARN}-2"
    with pytest.raises(ApprovalNeeded, match=f"SNS_TOPIC_ARNS={TOPIC_ARN},{arn} "):
        verify(authority, confirmation(TopicArn=arn, SigningCertURL=CERT_URL,
            Signature="", SignatureVersion="2"), arns=(TOPIC_ARN,))  # fmt: skip


@pytest.mark.parametrize("arn", ["arn:aws:sns:eu-central-1:1:x", "x" * 1_000, "<script>"])
def test_nobody_is_asked_about_what_is_no_topic(authority: Authority, arn: str) -> None:
    given = confirmation(TopicArn=arn, SigningCertURL=CERT_URL, Signature="", SignatureVersion="2")
    with pytest.raises(InvalidRequest, match="is not the ARN of an SNS topic"):
        verify(authority, given, arns=())


def test_at_least_forty_forgeries_are_tried() -> None:
    assert len(SIGNED_BUT_WRONG) + len(CHANGED) >= 40
