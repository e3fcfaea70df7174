"""Compares an AWS account with an `EventRoute`, and makes the difference good.

`changes` only looks. Each `Change` says what it will do and can then be made, in order: the queues
before the topic that fills them, the topic before the set that publishes to it. What is already as
it should be yields no change, so that a second run has nothing to do.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

from mailer.errors import MailerError
from mailer_ses.account import Account, session
from mailer_ses.policies import EventRoute

PENDING: Final = "PendingConfirmation"

_DENIED: Final = {"AccessDenied", "AccessDeniedException", "AuthorizationError"}
_NOT_ACCEPTED: Final = {
    "ExpiredToken", "ExpiredTokenException", "IncompleteSignature", "InvalidClientTokenId",
    "SignatureDoesNotMatch", "UnrecognizedClientException",
}  # fmt: skip
_NOT_THERE: Final = {
    "AWS.SimpleQueueService.NonExistentQueue", "NotFound", "NotFoundException", "QueueDoesNotExist",
}  # fmt: skip


class SetupError(MailerError):
    """AWS did not do what was asked; the sentence says what to mend."""


@dataclass(frozen=True, slots=True)
class Change:
    """One thing to do: in words, and as a call."""

    what: str
    make: Callable[[], object]
    detail: str = ""

    @property
    def sentence(self) -> str:
        return f"{self.what}: {self.detail}" if self.detail else self.what


@dataclass(frozen=True, slots=True)
class Aws:
    """The services that are set up, in one region."""

    ses: Any
    sns: Any
    sqs: Any
    sts: Any

    @classmethod
    def of(cls, account: Account) -> Aws:
        """Raises SetupError when boto3 can't be used as it is configured."""
        config = Config(connect_timeout=5, read_timeout=20, retries={"total_max_attempts": 3})
        with in_words():
            boto = session(account)
            names = ("sesv2", "sns", "sqs", "sts")
            return cls(*(boto.client(name, config=config) for name in names))

    def identity(self) -> tuple[str, str, str]:
        """Partition, account and ARN of whoever the credentials belong to. Raises SetupError."""
        with in_words():
            who = self.sts.get_caller_identity()
        return who["Arn"].split(":")[1], who["Account"], who["Arn"]


def changes(aws: Aws, route: EventRoute) -> list[Change]:
    """All that differs from the route. Raises SetupError."""
    with in_words():
        found = list(_queue(aws, route.dead_letter_name, route.dead_letter_attributes()))
        if route.endpoint is None:
            found += _queue(aws, route.name, route.queue_attributes())
        found += _topic(aws, route)
        found += _subscription(aws, route)
        found += _configuration_set(aws, route)
    return found


def queue_url(aws: Aws, route: EventRoute) -> str:
    """Of the queue that mailer may read. Raises SetupError."""
    with in_words():
        name = route.dead_letter_name if route.endpoint else route.name
        url: str = aws.sqs.get_queue_url(QueueName=name)["QueueUrl"]
        return url


def subscriptions(aws: Aws, route: EventRoute) -> dict[str, str]:
    """What the topic delivers to → the subscription's ARN, or PENDING. Raises SetupError."""
    with in_words():
        return _subscriptions(aws, route)


@contextmanager
def in_words() -> Iterator[None]:
    """Raises SetupError for whatever AWS or boto3 raises."""
    try:
        yield
    except NoCredentialsError:
        raise SetupError(
            "no AWS credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or"
            " AWS_PROFILE, of a user or role that `mailer ses setup --print-policy=setup` describes"
        ) from None
    except ClientError as error:
        raise SetupError(_explained(error)) from None
    except (BotoCoreError, ValueError) as error:
        raise SetupError(f"AWS can't be asked: {error}") from None


def _explained(error: ClientError) -> str:
    code = error.response["Error"].get("Code", "")
    words = " ".join(str(error.response["Error"].get("Message", "")).split())
    if code in _DENIED:
        return (
            f"the credentials may not do this ({error.operation_name}: {words});"
            " `mailer ses setup --print-policy=setup` prints what they need"
        )
    if code in _NOT_ACCEPTED:
        return f"AWS does not accept the credentials ({code}: {words})"
    return f"{error.operation_name} failed ({code}: {words})"


def _queue(aws: Aws, name: str, wanted: Mapping[str, str]) -> Iterator[Change]:
    try:
        url = aws.sqs.get_queue_url(QueueName=name)["QueueUrl"]
    except ClientError as error:
        _only_if_missing(error)
        yield Change(
            f"create the SQS queue {name}",
            partial(aws.sqs.create_queue, QueueName=name, Attributes=dict(wanted)),
        )
        return
    there = aws.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"]).get("Attributes", {})
    if wrong := _differing(there, wanted):
        yield Change(
            f"mend the SQS queue {name}",
            partial(aws.sqs.set_queue_attributes, QueueUrl=url, Attributes=wrong),
            _listed(wrong),
        )


def _topic(aws: Aws, route: EventRoute) -> Iterator[Change]:
    wanted = route.topic_attributes()
    try:
        there = aws.sns.get_topic_attributes(TopicArn=route.topic_arn)["Attributes"]
    except ClientError as error:
        _only_if_missing(error)
        yield Change(
            f"create the SNS topic {route.name}",
            partial(aws.sns.create_topic, Name=route.name, Attributes=wanted),
            f"SES may publish to it, for the configuration set {route.configuration_set} alone",
        )
        return
    # A topic that was made without a version may not tell it; mailer believes both.
    wrong = _differing({"SignatureVersion": "2"} | there, wanted)
    for name, value in wrong.items():
        yield Change(
            f"mend the SNS topic {route.name}",
            partial(
                aws.sns.set_topic_attributes,
                TopicArn=route.topic_arn, AttributeName=name, AttributeValue=value,
            ),
            _listed({name: value}),
        )  # fmt: skip


def _subscription(aws: Aws, route: EventRoute) -> Iterator[Change]:
    wanted = route.subscription_attributes()
    subscribe = partial(
        aws.sns.subscribe,
        TopicArn=route.topic_arn,
        Protocol=route.protocol,
        Endpoint=route.subscriber,
        Attributes=wanted,
        ReturnSubscriptionArn=True,
    )
    try:
        arn = _subscriptions(aws, route).get(route.subscriber)
    except ClientError as error:
        _only_if_missing(error)
        arn = None
    if arn is None:
        yield Change(f"subscribe {route.subscriber}", subscribe)
    elif arn == PENDING:
        yield Change(f"ask {route.subscriber} once more to confirm its subscription", subscribe)
    else:
        there = aws.sns.get_subscription_attributes(SubscriptionArn=arn)["Attributes"]
        for name, value in _differing(there, wanted).items():
            yield Change(
                f"mend the subscription of {route.subscriber}",
                partial(
                    aws.sns.set_subscription_attributes,
                    SubscriptionArn=arn, AttributeName=name, AttributeValue=value,
                ),
                _listed({name: value}),
            )  # fmt: skip


def _subscriptions(aws: Aws, route: EventRoute) -> dict[str, str]:
    pages = aws.sns.get_paginator("list_subscriptions_by_topic").paginate(TopicArn=route.topic_arn)
    found = (one for page in pages for one in page["Subscriptions"])
    return {one["Endpoint"]: one["SubscriptionArn"] for one in found}


def _configuration_set(aws: Aws, route: EventRoute) -> Iterator[Change]:
    wanted = route.event_destination()
    of_set = {"ConfigurationSetName": route.configuration_set}
    destination = of_set | {"EventDestinationName": route.name, "EventDestination": wanted}
    what = f"the event destination {route.name} of the configuration set {route.configuration_set}"
    create = Change(
        f"create {what}",
        partial(aws.ses.create_configuration_set_event_destination, **destination),
        ", ".join(wanted["MatchingEventTypes"]),
    )
    try:
        found = aws.ses.get_configuration_set_event_destinations(**of_set)["EventDestinations"]
    except ClientError as error:
        _only_if_missing(error)
        yield Change(
            f"create the SES configuration set {route.configuration_set}",
            partial(aws.ses.create_configuration_set, **of_set),
        )
        yield create
        return
    there = next((one for one in found if one["Name"] == route.name), None)
    if there is None:
        yield create
    elif faults := list(_destination_faults(there, wanted)):
        yield Change(
            f"mend {what}",
            partial(aws.ses.update_configuration_set_event_destination, **destination),
            "; ".join(faults),
        )


def _destination_faults(there: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterator[str]:
    if not there.get("Enabled"):
        yield "switch it on"
    if there.get("SnsDestination") != wanted["SnsDestination"]:
        yield "publish to the topic"
    has, needs = set(there["MatchingEventTypes"]), set(wanted["MatchingEventTypes"])
    if missing := sorted(needs - has):
        yield f"add {', '.join(missing)}"
    if surplus := sorted(has - needs):
        yield f"take out {', '.join(surplus)}"


def _only_if_missing(error: ClientError) -> None:
    """Raise the error again unless it says that there is no such thing."""
    if error.response["Error"].get("Code") not in _NOT_THERE:
        raise error


def _differing(there: Mapping[str, str], wanted: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in wanted.items()
        if not _holds(_parsed(value), _parsed(there.get(name, "")))
    }


def _holds(wanted: Any, there: Any) -> bool:
    """Whether all that is wanted is there; AWS may add members with its defaults.

    A policy's statements are a list, to which nothing may be added.
    """
    if isinstance(wanted, dict) and isinstance(there, dict):
        return all(_holds(value, there.get(name)) for name, value in wanted.items())
    return bool(wanted == there)


def _parsed(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return value


def _listed(attributes: Mapping[str, str]) -> str:
    return "; ".join(f"{name} to {value}" for name, value in attributes.items())
