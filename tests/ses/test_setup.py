"""`mailer ses setup`: made, repeated, broken, mended; SNS and SQS are moto's, SES the fake."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from mailer_ses.commands import ses as command
from mailer_ses.policies import EVENT_TYPES, EventRoute
from mailer_ses.settings import SesSettings
from mailer_ses.setup import Aws, SetupError, changes

from mailer.settings import load
from tests.installation import Installation
from tests.ses.answering import Answering
from tests.ses.cloud import ACCOUNT_ID, REGION, Cloud
from tests.ses.harness import FakeSes

URL = "https://mail.example.com"
BY_QUEUE = EventRoute(REGION, ACCOUNT_ID, "mailer-events", "mailer-events")
BY_URL = replace(BY_QUEUE, endpoint=f"{URL}/v1/events/results")
ROUTES = pytest.mark.parametrize("route", [BY_QUEUE, BY_URL], ids=["sqs", "url"])


def setup(*arguments: str, answer: str = "") -> Result:
    settings = load({"AWS_REGION": REGION}, of_plugins=[SesSettings])
    return CliRunner().invoke(command, ["setup", *arguments], answer, obj=lambda: settings)


def for_route(route: EventRoute, *arguments: str) -> Result:
    way = ["--url", URL] if route.endpoint else ["--sqs"]
    done = setup(*way, "--yes", *arguments)
    assert done.exit_code == 0, (done.output, done.exception)
    return done


@ROUTES
def test_it_makes_all_and_says_what_to_set(cloud: Cloud, route: EventRoute) -> None:
    done = for_route(route)

    queue = cloud.queue("mailer-events-dead" if route.endpoint else "mailer-events")
    assert "SES_CONFIGURATION_SET=mailer-events\n" in done.output
    assert f"SNS_TOPIC_ARNS={route.topic_arn}\n" in done.output
    assert f"/{queue['QueueArn'].split(':')[-1]}\n" in done.output.partition("SQS_QUEUE_URL=")[2]
    assert list(cloud.subscriptions(route)) == [route.subscriber]
    (destination,) = cloud.destinations("mailer-events")
    assert destination["MatchingEventTypes"] == list(EVENT_TYPES)
    assert destination["SnsDestination"] == {"TopicArn": route.topic_arn}
    assert bool(cloud.queue("mailer-events")) == (route.endpoint is None)


def test_sns_tries_for_its_whole_hour_and_keeps_the_rest(cloud: Cloud) -> None:
    for_route(BY_URL)

    (subscription,) = cloud.subscriptions(BY_URL).values()
    policy = subscription["DeliveryPolicy"]["healthyRetryPolicy"]
    early = policy["numMinDelayRetries"] * policy["minDelayTarget"]
    late = policy["numMaxDelayRetries"] * policy["maxDelayTarget"]
    assert early + late == 3_600
    assert policy["numRetries"] == policy["numMinDelayRetries"] + policy["numMaxDelayRetries"] < 100
    assert subscription["RedrivePolicy"] == {"deadLetterTargetArn": BY_URL.dead_letter_arn}
    assert subscription["RawMessageDelivery"] == "false"
    assert cloud.queue("mailer-events-dead")["MessageRetentionPeriod"] == str(14 * 86_400)


@ROUTES
def test_each_policy_allows_one_service_one_call(cloud: Cloud, route: EventRoute) -> None:
    for_route(route)

    names = ["mailer-events-dead"] if route.endpoint else ["mailer-events", "mailer-events-dead"]
    policies = [(cloud.topic(route)["Policy"], "ses", "sns:Publish", route.topic_arn)]
    for name in names:
        queue = cloud.queue(name)
        policies.append((queue["Policy"], "sns", "sqs:SendMessage", queue["QueueArn"]))
    for policy, service, action, resource in policies:
        (statement,) = policy["Statement"]
        assert statement["Effect"] == "Allow"
        assert statement["Principal"] == {"Service": f"{service}.amazonaws.com"}
        assert statement["Action"] == action
        assert statement["Resource"] == resource
        (conditions,) = statement["Condition"].values()
        caller = route.configuration_set_arn if service == "ses" else route.topic_arn
        assert caller in conditions.values()


@ROUTES
def test_a_second_run_changes_nothing(cloud: Cloud, ses: FakeSes, route: EventRoute) -> None:
    for_route(route)
    before, calls = cloud.everything(route), len(ses.operations())

    again = for_route(route)

    assert "nothing to do" in again.output
    assert cloud.everything(route) == before
    assert not any(name.startswith(("Create", "Update")) for name in ses.operations()[calls:])


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


@pytest.fixture(scope="module")
def clients(ses_process: FakeSes, moto_url: str) -> Aws:
    """Made once: botocore takes a while to read its service descriptions."""
    cloud = Cloud(moto_url, ses_process.url)
    return Aws(*(cloud.client(name) for name in ("sesv2", "sns", "sqs", "sts")))


def made(clients: Aws) -> list[str]:
    """Make good what differs; what was said of it."""
    todo = changes(clients, BY_QUEUE)
    for change in todo:
        change.make()
    return [change.sentence for change in todo]


@pytest.mark.parametrize("broken", BREAKS)
def test_what_is_broken_is_mended_and_said(cloud: Cloud, clients: Aws, broken: str) -> None:
    made(clients)
    good = _comparable(cloud)
    damage, said = BREAKS[broken]
    damage(cloud)
    assert _comparable(cloud) != good

    mended = made(clients)

    assert [said in sentence for sentence in mended] == [True]
    assert _comparable(cloud) == good
    assert made(clients) == []


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


def test_nothing_is_done_without_a_yes(cloud: Cloud, ses: FakeSes) -> None:
    for answer in ("", "n\n"):
        done = setup("--sqs", answer=answer)
        assert done.exit_code == 1
        assert "create the SNS topic mailer-events" in done.output
    assert cloud.client("sns").list_topics()["Topics"] == []
    assert cloud.client("sqs").list_queues().get("QueueUrls", []) == []
    assert set(ses.operations()) == {"GetConfigurationSetEventDestinations"}

    assert setup("--sqs", answer="y\n").exit_code == 0
    assert cloud.queue("mailer-events")


def test_other_subscriptions_are_left_alone_and_named(cloud: Cloud) -> None:
    for_route(BY_URL)

    done = for_route(BY_QUEUE)

    assert f"also delivered to {BY_URL.endpoint}" in done.output
    assert set(cloud.subscriptions(BY_QUEUE)) == {BY_URL.endpoint, BY_QUEUE.queue_arn}


def test_names_can_be_chosen(cloud: Cloud) -> None:
    for_route(BY_QUEUE, "--topic", "mine", "--configuration-set", "events")

    assert [one["Name"] for one in cloud.destinations("events")] == ["mine"]
    assert cloud.queue("mine")
    assert cloud.queue("mine-dead")


@pytest.mark.parametrize(
    "arguments",
    [(), ("--sqs", "--url", URL), ("--url", "http://mail.example.com"), ("--url", "example.com"),
     ("--sqs", "--topic", "a b"), ("--sqs", "--topic", "x" * 65),
     ("--sqs", "--configuration-set", "ü"), ("--sqs", "--print-policy=all")],
)  # fmt: skip
def test_wrong_usage(aws: None, arguments: tuple[str, ...]) -> None:
    assert setup(*arguments).exit_code == 2


def test_what_may_not_be_done_is_said_with_the_way_out(cloud: Cloud, ses: FakeSes) -> None:
    ses.told(denied=["CreateConfigurationSetEventDestination"])

    done = setup("--sqs", "--yes")

    assert isinstance(done.exception, SetupError)
    assert "ses:CreateConfigurationSetEventDestination" in str(done.exception)
    assert "--print-policy=setup" in str(done.exception)
    assert "done: create the SNS topic mailer-events" in done.output
    ses.told()
    assert "create the SNS topic" not in for_route(BY_QUEUE).output


REFUSALS = {
    "AccessDenied": "--print-policy=setup",
    "InvalidClientTokenId": "does not accept the credentials",
    "ExpiredToken": "does not accept the credentials",
    "Throttling": "GetCallerIdentity failed (Throttling",
}


@pytest.mark.parametrize("code", REFUSALS)
def test_what_aws_refuses_is_one_sentence(
    cloud: Cloud, answering: Answering, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", answering.url)
    answering.status = 400
    answering.answer = (
        "<ErrorResponse><Error><Type>Sender</Type>"
        f"<Code>{code}</Code><Message>no\nway</Message></Error></ErrorResponse>"
    ).encode()

    done = setup("--sqs")

    assert isinstance(done.exception, SetupError)
    assert REFUSALS[code] in str(done.exception)
    assert "no way" in str(done.exception)
    assert "\n" not in str(done.exception)


def test_as_typed_without_credentials(tmp_path: Path) -> None:
    """A whole process: a sentence on stderr, no traceback."""
    nowhere = {"AWS_REGION": REGION, "AWS_EC2_METADATA_DISABLED": "true", "HOME": str(tmp_path)}
    installation = Installation(tmp_path, **nowhere)

    done = installation.mailer("ses", "setup", "--sqs")

    assert done.returncode == 1
    assert done.stderr.startswith("Error: no AWS credentials were found: set AWS_ACCESS_KEY_ID")
    assert len(done.stderr.splitlines()) == 1

    policy = installation.mailer("ses", "setup", "--sqs", "--print-policy=run")
    assert policy.returncode == 0
    assert "ACCOUNT_ID" in policy.stderr
    assert "ACCOUNT_ID:mailer-events" in policy.stdout
    assert json.loads(policy.stdout)["Version"] == "2012-10-17"


def test_the_policies_are_printed_and_nothing_is_done(cloud: Cloud, ses: FakeSes) -> None:
    both = setup("--sqs", "--print-policy")

    assert both.exit_code == 0
    assert "For whoever runs `mailer ses setup`:" in both.output
    assert "For mailer itself" in both.output
    assert ses.operations() == []
    for which in ("setup", "run"):
        policy = json.loads(setup("--sqs", f"--print-policy={which}").output)
        assert json.dumps(policy, indent=2) in both.output
