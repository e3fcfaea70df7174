"""Whether a notification comes from Amazon SNS, and from a topic that is ours.

Everything cheap is checked first: size, form, topic, age, the certificate's URL. Only then may the
certificate be fetched and the signature checked; nothing else in a message is used before. A
message that can never be right raises InvalidRequest, one that can't be judged now an OSError, a
topic that only SNS_TOPIC_ARNS can allow ApprovalNeeded.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import parse_qsl

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from mailer.errors import ApprovalNeeded, Fault, InvalidRequest

MAX_BODY_BYTES: Final = 300_000
"""SNS sends at most 256 KiB, envelope included."""
MAX_AGE: Final = timedelta(hours=2)
"""SNS tries for an hour at most, with the first try's timestamp."""
MAX_AHEAD: Final = timedelta(minutes=15)

NOTIFICATION: Final = "Notification"
CONFIRMATION: Final = "SubscriptionConfirmation"
FAREWELL: Final = "UnsubscribeConfirmation"

_SIGNED: Final = ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type")
_SIGNED_OF_CONFIRMATIONS: Final = (
    "Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type",
)  # fmt: skip
"""https://docs.aws.amazon.com/sns/latest/dg/sns-verify-signature-of-message.html"""


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """SNS's envelope. Only fields that are signed, and what is needed to check them."""

    type: str = msgspec.field(name="Type")
    message_id: str = msgspec.field(name="MessageId")
    topic_arn: str = msgspec.field(name="TopicArn")
    message: str = msgspec.field(name="Message")
    timestamp: str = msgspec.field(name="Timestamp")
    signature_version: str = msgspec.field(name="SignatureVersion")
    signature: str = msgspec.field(name="Signature")
    signing_cert_url: str = msgspec.field(name="SigningCertURL")
    subject: str | None = msgspec.field(name="Subject", default=None)
    token: str | None = msgspec.field(name="Token", default=None)
    subscribe_url: str | None = msgspec.field(name="SubscribeURL", default=None)

    def text_to_sign(self) -> bytes:
        """Names and values of the signed fields, a line each, in SNS's order."""
        fields = msgspec.to_builtins(self)
        names = _SIGNED if self.type == NOTIFICATION else _SIGNED_OF_CONFIRMATIONS
        present = (name for name in names if fields[name] is not None)
        return "".join(f"{name}\n{fields[name]}\n" for name in present).encode()


class _Claim(msgspec.Struct):
    """As much of a body as tells that it claims to be from SNS."""

    type: object = msgspec.field(name="Type")
    topic_arn: object = msgspec.field(name="TopicArn")


class Topic(msgspec.Struct, frozen=True):
    """Where a topic is at home: the hosts and certificate names that speak for it."""

    region: str
    host: str
    certificate_names: frozenset[str]

    @classmethod
    def of(cls, arn: str) -> Topic | None:
        match = _ARN.fullmatch(arn)
        if match is None:
            return None
        partition, region = match.groups()
        prefix = {"aws-cn": "cn-", "aws-us-gov": "us-gov-"}.get(partition, "")
        foreign = not prefix and region.startswith(("cn-", "us-gov-"))
        if foreign or not region.startswith(prefix):
            return None
        suffix = "amazonaws.com.cn" if partition == "aws-cn" else "amazonaws.com"
        host = f"sns.{region}.{suffix}"
        # As AWS's own SDK for Java has them (SnsHostProvider).
        names = {host, f"sns-signing.{region}.{suffix}", f"sns-{region}.{suffix}"}
        if partition == "aws":
            names.add("sns.amazonaws.com")
        if partition == "aws-us-gov":
            names.add("sns-us-gov-west-1.amazonaws.com")
        return cls(region, host, frozenset(names))


_ARN: Final = re.compile(
    r"arn:(aws|aws-cn|aws-us-gov):sns:([a-z]{2}(?:-[a-z]{2,12}){1,3}-[0-9]{1,2}):[0-9]{12}"
    r":[A-Za-z0-9_-]{1,256}(?:\.fifo)?"
)
_CERTIFICATE_FILE: Final = re.compile(r"SimpleNotificationService-[0-9A-Za-z]{1,64}\.pem")
_HASHES: Final[Mapping[str, hashes.HashAlgorithm]] = {"1": hashes.SHA1(), "2": hashes.SHA256()}  # noqa: S303 - SNS's version 1
_TYPE_HEADER: Final = "x-amz-sns-message-type"
_RAW_HEADER: Final = "x-amz-sns-rawdelivery"

KeyOf = Callable[[Topic, str], rsa.RSAPublicKey]
"""Topic and file name → the key of SNS's certificate; raises InvalidRequest or OSError."""


def verified(
    headers: Mapping[str, str],
    body: bytes,
    *,
    topic_arns: tuple[str, ...],
    key_of: KeyOf,
    now: datetime,
    max_age: timedelta = MAX_AGE,
) -> tuple[Message, Topic] | None:
    """The message, if SNS sent it from one of our topics; None if it is not SNS's at all."""
    if not _claims_to_be_from_sns(headers, body):
        return None
    if headers.get(_RAW_HEADER) == "true":
        raise refusal(_RAW_HEADER, "raw delivery has no signature: turn it off for this topic")
    if len(body) > MAX_BODY_BYTES:
        raise refusal("body", f"more than {MAX_BODY_BYTES} bytes, which SNS never sends")
    message = _parsed(body)
    if headers.get(_TYPE_HEADER, message.type) != message.type:
        raise refusal("Type", f"differs from the header {_TYPE_HEADER}")
    topic = _ours(message, topic_arns)
    _check_age(message, now, max_age)
    file = _certificate_file(message, topic)
    if message.type == CONFIRMATION:
        _check_subscribe_url(message, topic)
    _check_signature(message, key_of(topic, file))
    return message, topic


def refusal(field: str, problem: str) -> InvalidRequest:
    """The error that says for good that a message is none of SNS's."""
    return InvalidRequest([Fault(field, "notification_untrusted", problem)])


def _claims_to_be_from_sns(headers: Mapping[str, str], body: bytes) -> bool:
    if _TYPE_HEADER in headers or _RAW_HEADER in headers:
        return True
    try:
        msgspec.json.decode(body[: MAX_BODY_BYTES + 1], type=_Claim)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def _parsed(body: bytes) -> Message:
    try:
        message = msgspec.json.decode(body, type=Message)
    except (msgspec.DecodeError, RecursionError) as error:
        raise refusal("body", f"is not a message of SNS: {error}") from None
    if message.type not in {NOTIFICATION, CONFIRMATION, FAREWELL}:
        raise refusal("Type", "is none that SNS has")
    if message.type != NOTIFICATION and not (message.token and message.subscribe_url):
        raise refusal("Token", "a confirmation has a Token and a SubscribeURL")
    return message


def _ours(message: Message, topic_arns: tuple[str, ...]) -> Topic:
    topic = Topic.of(message.topic_arn)
    if topic is None:
        raise refusal("TopicArn", "is not the ARN of an SNS topic")
    if message.topic_arn in topic_arns:
        return topic
    if topic_arns and message.type != CONFIRMATION:
        raise refusal("TopicArn", "is not among SNS_TOPIC_ARNS")
    sentence = (
        f"a {message.type} of {message.topic_arn} waits: if the topic is yours, set"
        f" SNS_TOPIC_ARNS={','.join((*topic_arns, message.topic_arn))} and restart"
    )
    raise ApprovalNeeded("SNS_TOPIC_ARNS", message.topic_arn, sentence)


def _check_age(message: Message, now: datetime, max_age: timedelta) -> None:
    try:
        sent = datetime.strptime(message.timestamp, "%Y-%m-%dT%H:%M:%S.%f%z")
    except ValueError:
        raise refusal("Timestamp", "is not a time as SNS writes it") from None
    if not now - max_age <= sent <= now + MAX_AHEAD:
        raise refusal("Timestamp", "is too far from this machine's time")


def _certificate_file(message: Message, topic: Topic) -> str:
    """The file that the URL names; whatever is not letter by letter SNS's URL is refused."""
    prefix = f"https://{topic.host}/"
    file = message.signing_cert_url.removeprefix(prefix)
    if file == message.signing_cert_url or not _CERTIFICATE_FILE.fullmatch(file):
        raise refusal("SigningCertURL", f"is not one of {prefix}SimpleNotificationService-….pem")
    return file


def _check_subscribe_url(message: Message, topic: Topic) -> None:
    """It is never called, but one that asks for something else betrays a forgery."""
    prefix = f"https://{topic.host}/?"
    url = message.subscribe_url or ""
    asks = parse_qsl(url.removeprefix(prefix), keep_blank_values=True)
    expected = [
        ("Action", "ConfirmSubscription"),
        ("Token", message.token),
        ("TopicArn", message.topic_arn),
    ]
    if not url.startswith(prefix) or sorted(asks) != expected:
        raise refusal(
            "SubscribeURL", "does not confirm the subscription of this topic, or not it alone"
        )


def _check_signature(message: Message, key: rsa.RSAPublicKey) -> None:
    algorithm = _HASHES.get(message.signature_version)
    if algorithm is None:
        raise refusal("SignatureVersion", "is neither 1 nor 2")
    try:
        signature = base64.b64decode(message.signature, validate=True)
        key.verify(signature, message.text_to_sign(), padding.PKCS1v15(), algorithm)
    except (InvalidSignature, binascii.Error, ValueError):
        raise refusal("Signature", "is not SNS's") from None
