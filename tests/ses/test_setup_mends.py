"""Whatever of SES's way to mailer is broken, `mailer ses setup` says so, mends it, and no more."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from mailer_ses.setup import Aws

from tests.ses.cloud import Cloud, set_up
from tests.ses.test_setup import BY_QUEUE


def _delete_subscription(cloud: Cloud) -> None:
    sns = cloud.client("sns")
    (found,) = sns.list_subscriptions_by_topic(TopicArn=BY_QUEUE.topic_arn)["Subscriptions"]
    sns.unsubscribe(SubscriptionArn=found["SubscriptionArn"])


def _set_subscription(cloud: Cloud, name: str, value: str) -> None:
    sns = cloud.client("sns")
    (found,) = sns.list_subscriptions_by_topic(TopicArn=BY_QUEUE.topic_arn)["Subscriptions"]
    arn = found["SubscriptionArn"]
    sns.set_subscription_attributes(SubscriptionArn=arn, AttributeName=name, AttributeValue=value)


def _set_queue(cloud: Cloud, queue: str, name: str, value: str) -> None:
    sqs = cloud.client("sqs")
    url = sqs.get_queue_url(QueueName=queue)["QueueUrl"]
    sqs.set_queue_attributes(QueueUrl=url, Attributes={name: value})


def _set_destination(cloud: Cloud, **changed: object) -> None:
    cloud.client("sesv2").update_configuration_set_event_destination(
        ConfigurationSetName="mailer-events",
        EventDestinationName="mailer-events",
        EventDestination=BY_QUEUE.event_destination() | changed,
    )


def _open_to_all(arn: str, action: str) -> str:
    statement = {"Effect": "Allow", "Principal": "*", "Action": action, "Resource": arn}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def _with_a_statement_more() -> str:
    policy = json.loads(BY_QUEUE.queue_attributes()["Policy"])
    policy["Statement"] += json.loads(_open_to_all(BY_QUEUE.queue_arn, "sqs:*"))["Statement"]
    return json.dumps(policy)


BREAKS: dict[str, tuple[Callable[[Cloud], object], str]] = {
    "no subscription": (_delete_subscription, "subscribe arn:aws:sqs"),
    "raw delivery": (
        lambda cloud: _set_subscription(cloud, "RawMessageDelivery", "true"),
        "RawMessageDelivery to false",
    ),
    "no dead letters from SNS": (
        lambda cloud: _set_subscription(
            cloud, "RedrivePolicy", json.dumps({"deadLetterTargetArn": BY_QUEUE.queue_arn})
        ),
        "mend the subscription",
    ),
    "no dead-letter queue": (
        lambda cloud: cloud.client("sqs").delete_queue(
            QueueUrl=cloud.client("sqs").get_queue_url(QueueName="mailer-events-dead")["QueueUrl"]
        ),
        "create the SQS queue mailer-events-dead",
    ),
    "queue open to all": (
        lambda cloud: _set_queue(
            cloud, "mailer-events", "Policy", _open_to_all(BY_QUEUE.queue_arn, "sqs:*")
        ),
        "mend the SQS queue mailer-events: Policy",
    ),
    "one statement too many": (
        lambda cloud: _set_queue(cloud, "mailer-events", "Policy", _with_a_statement_more()),
        "mend the SQS queue mailer-events: Policy",
    ),
    "short retention": (
        lambda cloud: _set_queue(cloud, "mailer-events-dead", "MessageRetentionPeriod", "60"),
        "mend the SQS queue mailer-events-dead: MessageRetentionPeriod to 1209600",
    ),
    "topic open to all": (
        lambda cloud: cloud.client("sns").set_topic_attributes(
            TopicArn=BY_QUEUE.topic_arn,
            AttributeName="Policy",
            AttributeValue=_open_to_all(BY_QUEUE.topic_arn, "sns:Publish"),
        ),
        "mend the SNS topic mailer-events: Policy",
    ),
    "other event types": (
        lambda cloud: _set_destination(cloud, MatchingEventTypes=["BOUNCE", "OPEN"]),
        "add COMPLAINT, DELIVERY, DELIVERY_DELAY, REJECT, RENDERING_FAILURE, SEND; take out OPEN",
    ),
    "destination switched off": (
        lambda cloud: _set_destination(cloud, Enabled=False),
        "switch it on",
    ),
    "other topic": (
        lambda cloud: _set_destination(
            cloud, SnsDestination={"TopicArn": f"{BY_QUEUE.topic_arn}-2"}
        ),
        "publish to the topic",
    ),
    "no destination": (
        lambda cloud: cloud.client("sesv2").delete_configuration_set_event_destination(
            ConfigurationSetName="mailer-events", EventDestinationName="mailer-events"
        ),
        "create the event destination",
    ),
}


@pytest.mark.parametrize("broken", BREAKS)
def test_what_is_broken_is_mended_and_said(cloud: Cloud, clients: Aws, broken: str) -> None:
    set_up(clients, BY_QUEUE)
    good = _comparable(cloud)
    damage, said = BREAKS[broken]
    damage(cloud)
    assert _comparable(cloud) != good

    mended = set_up(clients, BY_QUEUE)

    assert [said in sentence for sentence in mended] == [True]
    assert _comparable(cloud) == good
    assert set_up(clients, BY_QUEUE) == []


def _comparable(cloud: Cloud) -> str:
    """Without the ids and times that something made anew has."""
    found = cloud.everything(BY_QUEUE)
    for queue in found[:2]:
        for name in ("CreatedTimestamp", "LastModifiedTimestamp"):
            queue.pop(name, None)
    for name in list(found[2]):
        if name.startswith("Subscriptions"):
            del found[2][name]
    for subscription in found[3].values():
        del subscription["SubscriptionArn"]
    return json.dumps(found, sort_keys=True)
