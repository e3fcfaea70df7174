"""`mailer ses setup`: made, repeated, broken, mended; SNS and SQS are moto's, SES the fake."""

from __future__ import annotations

import ast
import inspect
import json
import re
from dataclasses import replace
from pathlib import Path

import mailer_ses.setup
import pytest
from click.testing import CliRunner, Result
from mailer_ses.commands import ses as command
from mailer_ses.policies import EVENT_TYPES, EventRoute
from mailer_ses.settings import SesSettings
from mailer_ses.setup import SetupError

from mailer.settings import load
from tests.installation import Installation
from tests.ses.answering import Answering
from tests.ses.between import Between
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


def test_a_subscription_that_waits_is_asked_for_again(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Moto confirms at once; as AWS tells of one that nobody has confirmed yet."""

    def unconfirmed(operation: str, content: bytes) -> bytes:
        if operation != "ListSubscriptionsByTopic":
            return content
        return re.sub(rb"(<SubscriptionArn>)[^<]+", rb"\1PendingConfirmation", content)

    for_route(BY_URL)
    between = Between(cloud.moto_url, unconfirmed)
    monkeypatch.setenv("AWS_ENDPOINT_URL_SNS", between.url)

    done = for_route(BY_URL)

    assert f"ask {BY_URL.endpoint} once more to confirm" in done.output
    assert between.calls.count("Subscribe") == 1
    assert not {"SetTopicAttributes", "GetSubscriptionAttributes"} & set(between.calls)
    assert f"{BY_URL.endpoint} has yet to confirm its subscription" in done.output
    between.stop()


def test_the_policy_names_the_calls_that_are_made_and_no_other() -> None:
    calls = {
        f"{node.value.attr}:{node.attr.title().replace('_', '')}"
        for node in ast.walk(ast.parse(inspect.getsource(mailer_ses.setup)))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Attribute)
        and node.value.attr in {"ses", "sns", "sqs"}
    }
    calls -= {"sns:GetPaginator"}
    calls |= {"sns:ListSubscriptionsByTopic"}

    for route in (BY_QUEUE, BY_URL):
        statements = route.policy_to_set_up()["Statement"]
        assert {action for one in statements for action in one["Action"]} == calls


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
