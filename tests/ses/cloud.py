"""An AWS account of nobody's: SNS, SQS and STS by moto's server, SES by the fake."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.request import Request, urlopen

import boto3
from mailer_ses.policies import EventRoute
from mailer_ses.setup import Aws, changes

ACCOUNT_ID = "123456789012"
REGION = "eu-central-1"


@dataclass(frozen=True)
class Cloud:
    """The services' addresses, and what can be seen through them."""

    moto_url: str
    ses_url: str

    @property
    def environ(self) -> dict[str, str]:
        return {
            "AWS_REGION": REGION,
            "AWS_ACCESS_KEY_ID": "AKIATEST",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_ENDPOINT_URL_SESV2": self.ses_url,
            **{f"AWS_ENDPOINT_URL_{name}": self.moto_url for name in ("SNS", "SQS", "STS")},
        }

    @lru_cache(maxsize=16)  # noqa: B019 - there is one Cloud in a test run
    def client(self, service: str) -> Any:
        url = self.ses_url if service == "sesv2" else self.moto_url
        return boto3.client(
            service,
            region_name=REGION,
            endpoint_url=url,
            aws_access_key_id="AKIATEST",
            aws_secret_access_key="secret",
        )

    def clients(self) -> Aws:
        return Aws(*(self.client(name) for name in ("sesv2", "sns", "sqs", "sts")))

    def reset(self) -> None:
        """Everything in moto is gone."""
        with urlopen(Request(f"{self.moto_url}/moto-api/reset", method="POST"), timeout=10):
            pass

    def queue(self, name: str) -> dict[str, Any]:
        """Attributes, with those in JSON parsed; empty when there is no such queue."""
        sqs = self.client("sqs")
        try:
            url = sqs.get_queue_url(QueueName=name)["QueueUrl"]
        except sqs.exceptions.QueueDoesNotExist:
            return {}
        return parsed(sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"])

    def topic(self, route: EventRoute) -> dict[str, Any]:
        found = self.client("sns").get_topic_attributes(TopicArn=route.topic_arn)
        return parsed(found["Attributes"])

    def subscriptions(self, route: EventRoute) -> dict[str, dict[str, Any]]:
        """Endpoint → attributes."""
        sns = self.client("sns")
        found = sns.list_subscriptions_by_topic(TopicArn=route.topic_arn)["Subscriptions"]
        return {
            one["Endpoint"]: parsed(
                sns.get_subscription_attributes(SubscriptionArn=one["SubscriptionArn"])[
                    "Attributes"
                ]
            )
            for one in found
        }

    def destinations(self, configuration_set: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.client("sesv2").get_configuration_set_event_destinations(
            ConfigurationSetName=configuration_set
        )["EventDestinations"]
        return found

    def everything(self, route: EventRoute) -> Any:
        """All that set-up is about, to be compared with itself later."""
        return [
            _constant(self.queue(route.name)),
            _constant(self.queue(route.dead_letter_name)),
            self.topic(route),
            self.subscriptions(route),
            self.destinations(route.configuration_set),
        ]


def set_up(clients: Aws, route: EventRoute) -> list[str]:
    """Make good what differs from the route; what was said of it."""
    todo = changes(clients, route)
    for change in todo:
        change.make()
    return [change.sentence for change in todo]


def parsed(attributes: dict[str, str]) -> dict[str, Any]:
    def value(text: str) -> Any:
        return json.loads(text) if text.startswith("{") else text

    return {name: value(text) for name, text in attributes.items()}


def _constant(attributes: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if not name.startswith("Approximate")}
