"""What there has to be in an AWS account so that mailer learns what became of its mail.

SES publishes to an SNS topic; the topic posts to mailer, or fills a queue that mailer reads. Names,
attributes and policies are decided here as plain values; `setup` makes them so, and
deploy/aws/ses-events.yaml declares the same. Each policy allows one service one call on one thing.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

EVENT_TYPES: Final = (
    "SEND", "REJECT", "BOUNCE", "COMPLAINT", "DELIVERY", "DELIVERY_DELAY", "RENDERING_FAILURE",
)  # fmt: skip
"""Not OPEN and CLICK: for these SES would change the HTML, and mailer has its own."""

RETENTION_S: Final = 14 * 86_400
"""The longest a queue keeps a message."""
VISIBILITY_S: Final = 60
"""How long a message that was received and not deleted stays hidden."""
MAX_RECEIVES: Final = 50
"""So often a message is received before it goes to the dead-letter queue: about an hour, in which
what it takes to judge it (SNS's certificate, say) should be there again."""

DELIVERY_POLICY: Final = {
    "healthyRetryPolicy": {
        "numRetries": 69,
        "numNoDelayRetries": 0,
        "numMinDelayRetries": 10,
        "minDelayTarget": 6,
        "numMaxDelayRetries": 59,
        "maxDelayTarget": 60,
        "backoffFunction": "linear",
    }
}
"""Ten tries within the first minute, then one a minute for 59: an hour in all, and SNS allows no
more (https://docs.aws.amazon.com/sns/latest/dg/sns-message-delivery-retries.html)."""

Policy = dict[str, Any]


@dataclass(frozen=True, slots=True)
class EventRoute:
    """The way events take: configuration set, topic, subscription, queues."""

    region: str
    account_id: str
    name: str
    """The topic's, and the stem of the other names."""
    configuration_set: str
    endpoint: str | None = None
    """The URL that SNS posts to; None: a queue takes the events."""
    partition: str = "aws"

    @property
    def topic_arn(self) -> str:
        return self._arn("sns", self.name)

    @property
    def queue_arn(self) -> str:
        return self._arn("sqs", self.name)

    @property
    def dead_letter_name(self) -> str:
        return f"{self.name}-dead"

    @property
    def dead_letter_arn(self) -> str:
        return self._arn("sqs", self.dead_letter_name)

    @property
    def configuration_set_arn(self) -> str:
        return self._arn("ses", f"configuration-set/{self.configuration_set}")

    @property
    def protocol(self) -> str:
        return "https" if self.endpoint else "sqs"

    @property
    def subscriber(self) -> str:
        """What SNS delivers to: the URL, or the queue's ARN."""
        return self.endpoint or self.queue_arn

    def topic_attributes(self) -> dict[str, str]:
        statement = _allow(
            "SesPublishes", "ses.amazonaws.com", "sns:Publish", self.topic_arn,
            {"StringEquals": {
                "AWS:SourceAccount": self.account_id,
                "AWS:SourceArn": self.configuration_set_arn,
            }},
        )  # fmt: skip
        return {"SignatureVersion": "2", "Policy": json.dumps(_policy(statement))}

    def queue_attributes(self) -> dict[str, str]:
        redrive = {"deadLetterTargetArn": self.dead_letter_arn, "maxReceiveCount": MAX_RECEIVES}
        return {
            "MessageRetentionPeriod": str(RETENTION_S),
            "VisibilityTimeout": str(VISIBILITY_S),
            "Policy": json.dumps(_policy(self._sns_sends_to(self.queue_arn))),
            "RedrivePolicy": json.dumps(redrive),
        }

    def dead_letter_attributes(self) -> dict[str, str]:
        """What SNS could not deliver, and what mailer could not trust, waits here for people.

        With an endpoint mailer may read this queue too, so that it has the other's visibility.
        """
        return {
            "MessageRetentionPeriod": str(RETENTION_S),
            "VisibilityTimeout": str(VISIBILITY_S),
            "Policy": json.dumps(_policy(self._sns_sends_to(self.dead_letter_arn))),
        }

    def subscription_attributes(self) -> dict[str, str]:
        """Raw delivery would leave out the signature, without which mailer believes nothing."""
        attributes = {
            "RawMessageDelivery": "false",
            "RedrivePolicy": json.dumps({"deadLetterTargetArn": self.dead_letter_arn}),
        }
        if self.endpoint:
            attributes["DeliveryPolicy"] = json.dumps(DELIVERY_POLICY)
        return attributes

    def event_destination(self) -> dict[str, Any]:
        return {
            "Enabled": True,
            "MatchingEventTypes": list(EVENT_TYPES),
            "SnsDestination": {"TopicArn": self.topic_arn},
        }

    def policy_to_set_up(self) -> Policy:
        """The least that `mailer ses setup` needs of IAM."""
        queues = [self.dead_letter_arn] if self.endpoint else [self.queue_arn, self.dead_letter_arn]
        return _policy(
            _grant("Events", self.configuration_set_arn, [
                "ses:CreateConfigurationSet",
                "ses:CreateConfigurationSetEventDestination",
                "ses:GetConfigurationSetEventDestinations",
                "ses:UpdateConfigurationSetEventDestination",
            ]),
            _grant("Topic", [self.topic_arn, f"{self.topic_arn}:*"], [
                "sns:CreateTopic",
                "sns:GetSubscriptionAttributes",
                "sns:GetTopicAttributes",
                "sns:ListSubscriptionsByTopic",
                "sns:SetSubscriptionAttributes",
                "sns:SetTopicAttributes",
                "sns:Subscribe",
            ]),
            _grant("Queues", queues, [
                "sqs:CreateQueue",
                "sqs:GetQueueAttributes",
                "sqs:GetQueueUrl",
                "sqs:SetQueueAttributes",
            ]),
        )  # fmt: skip

    def policy_to_run(self) -> Policy:
        """The least that mailer needs of IAM: to send, to read the queue, and for its doctor."""
        identities = self._arn("ses", "identity/*")
        senders = [identities, self._arn("ses", "template/*"), self.configuration_set_arn]
        queue = self.dead_letter_arn if self.endpoint else self.queue_arn
        return _policy(
            _grant("Send", senders, ["ses:SendBulkEmail", "ses:SendEmail", "ses:SendRawEmail"]),
            _grant("Limits", "*", ["ses:GetAccount"]),
            _grant("Receive", queue, ["sqs:DeleteMessage", "sqs:ReceiveMessage"]),
            _grant("DoctorIdentity", identities, ["ses:GetEmailIdentity"]),
            _grant("DoctorEvents", self.configuration_set_arn, [
                "ses:GetConfigurationSetEventDestinations",
            ]),
            _grant("DoctorTopic", self.topic_arn, ["sns:ListSubscriptionsByTopic"]),
            _grant("DoctorQueue", queue, ["sqs:GetQueueAttributes"]),
        )  # fmt: skip

    def _sns_sends_to(self, queue_arn: str) -> Policy:
        return _allow(
            "SnsDelivers", "sns.amazonaws.com", "sqs:SendMessage", queue_arn,
            {"ArnEquals": {"aws:SourceArn": self.topic_arn}},
        )  # fmt: skip

    def _arn(self, service: str, resource: str) -> str:
        return f"arn:{self.partition}:{service}:{self.region}:{self.account_id}:{resource}"


def _policy(*statements: Policy) -> Policy:
    return {"Version": "2012-10-17", "Statement": list(statements)}


def _allow(sid: str, service: str, action: str, resource: str, condition: Policy) -> Policy:
    """A statement of a resource's own policy."""
    return {
        "Sid": sid,
        "Effect": "Allow",
        "Principal": {"Service": service},
        "Action": action,
        "Resource": resource,
        "Condition": condition,
    }


def _grant(sid: str, resource: str | list[str], actions: list[str]) -> Policy:
    """A statement of an identity's policy."""
    return {"Sid": sid, "Effect": "Allow", "Action": actions, "Resource": resource}
