"""What `mailer doctor` asks AWS of the way events take: configuration set, topic, queue or URL."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from mailer.hookspecs import Check
from mailer.settings import Settings
from mailer_ses.account import Account, session
from mailer_ses.checks import CONNECT_TIMEOUT_S, FAILURE, OK, READ_TIMEOUT_S, WARNING
from mailer_ses.policies import EVENT_TYPES
from mailer_ses.settings import SesSettings
from mailer_ses.setup import PENDING
from mailer_ses.setup_command import CALLBACK
from mailer_ses.sqs import region_of

NO_EVENTS: Final = "what becomes of mail is not learnt"
SETUP: Final = "`mailer ses setup` makes or mends it"


def look(settings: Settings) -> Iterator[Check]:
    """From SES to us, as far as it is configured."""
    account = Account.from_settings(settings)
    if account is None:
        return
    ours = settings.of(SesSettings)
    if not ours.topic_arns:
        yield Check("ses: events", WARNING, f"SNS_TOPIC_ARNS is not set: {NO_EVENTS}", SETUP)
        return
    yield _configuration_set(_boto(account, "sesv2"), ours)
    if ours.queue_url is not None:
        region = region_of(ours.queue_url) or account.region
        yield _queue(_boto(replace(account, region=region), "sqs"), ours.queue_url)
    for arn in ours.topic_arns:
        sns = _boto(replace(account, region=arn.split(":")[3]), "sns")
        yield _subscription(sns, arn, settings.public_url + CALLBACK, ours.queue_url)


def _boto(account: Account, service: str) -> Any:
    config = Config(
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=READ_TIMEOUT_S,
        retries={"total_max_attempts": 1},
    )
    return session(account).client(service, config=config)


def _configuration_set(ses: Any, ours: SesSettings) -> Check:
    name = "ses: events"
    if ours.configuration_set is None:
        finding = "SES_CONFIGURATION_SET is not set: events come without our tags, or not at all"
        return Check(name, WARNING, finding, SETUP)
    try:
        answer = ses.get_configuration_set_event_destinations(
            ConfigurationSetName=ours.configuration_set
        )
    except (BotoCoreError, ClientError) as error:
        return _problem(name, error, f"the configuration set {ours.configuration_set}")
    published: set[str] = set()
    for destination in answer.get("EventDestinations", ()):
        topic = destination.get("SnsDestination", {}).get("TopicArn")
        if destination.get("Enabled") and topic in ours.topic_arns:
            published.update(destination["MatchingEventTypes"])
    if not published:
        finding = f"{ours.configuration_set} publishes to no topic of SNS_TOPIC_ARNS: {NO_EVENTS}"
        return Check(name, FAILURE, finding, SETUP)
    missing = [kind for kind in EVENT_TYPES if kind not in published]
    if missing:
        finding = f"{ours.configuration_set} does not publish {', '.join(missing)}"
        return Check(name, WARNING, finding, SETUP)
    return Check(name, OK, f"{ours.configuration_set} publishes all that mailer needs")


def _queue(sqs: Any, url: str) -> Check:
    name = "ses: queue"
    try:
        answer = sqs.get_queue_attributes(
            QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages"]
        )
    except (BotoCoreError, ClientError) as error:
        return _problem(name, error, url)
    waiting = int(answer.get("Attributes", {}).get("ApproximateNumberOfMessages", 0))
    return Check(name, OK, f"reachable; about {waiting:,} messages wait in it")


def _subscription(sns: Any, arn: str, endpoint: str, queue_url: str | None) -> Check:
    name = "ses: subscription"
    try:
        pages = sns.get_paginator("list_subscriptions_by_topic").paginate(TopicArn=arn)
        found = {
            one["Endpoint"]: one["SubscriptionArn"] for p in pages for one in p["Subscriptions"]
        }
    except (BotoCoreError, ClientError) as error:
        return _problem(name, error, arn)
    # A queue's ARN ends in its account and name, as its URL does.
    queue = queue_url and queue_url.split("/")[-2:]
    if queue and any(other.split(":")[-2:] == queue for other in found):
        return Check(name, OK, f"{arn} fills the queue")
    if endpoint not in found:
        nor = " nor fills the queue" if queue else ""
        return Check(name, FAILURE, f"{arn} does not post to {endpoint}{nor}: {NO_EVENTS}", SETUP)
    if found[endpoint] == PENDING:
        finding = f"{arn} waits for {endpoint} to confirm"
        advice = "the API has to be reachable there: `mailer ses setup` then asks once more"
        return Check(name, WARNING, finding, advice)
    if queue:
        return Check(name, OK, f"{arn} posts to {endpoint}; the queue takes what it gives up")
    finding = (
        f"{arn} posts to {endpoint}, and gives an event up after an hour; a queue"
        " (`mailer ses setup --sqs`) keeps it for 14 days"
    )
    return Check(name, OK, finding)


def _problem(name: str, error: Exception, what: str) -> Check:
    """An error of boto3's as a line: what may not be asked is no failure of the thing itself."""
    if not isinstance(error, ClientError):
        return Check(name, FAILURE, f"{what} can't be asked for: {error}", "see the lines above")
    code = error.response["Error"].get("Code", "")
    words = " ".join(str(error.response["Error"].get("Message", "")).split())
    if "AccessDenied" in code or code == "AuthorizationError":
        advice = "allow the action it names, or run `mailer doctor` with more rights (AWS_PROFILE)"
        return Check(name, WARNING, f"{what} may not be asked for: {words}", advice)
    return Check(name, FAILURE, f"{what}: {code}: {words}", SETUP)
