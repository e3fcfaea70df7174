"""deploy/aws/ passes cfn-lint, and declares what `mailer ses setup` makes and prints."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from cfnlint.api import ManualArgs, lint, lint_file
from cfnlint.decode import decode
from mailer_ses.policies import EventRoute
from mailer_ses.setup import Aws

from tests.ses.cloud import ACCOUNT_ID, REGION, Cloud, set_up
from tests.ses.test_setup import BY_QUEUE, BY_URL, ROUTES, URL, for_route

AWS = Path(__file__).parent.parent.parent / "deploy" / "aws"
EVENTS = AWS / "ses-events.yaml"
ROLE = AWS / "instance-role.yaml"


class Stack:
    """The template's resources with every function resolved, as CloudFormation would."""

    def __init__(self, route: EventRoute, file: Path = EVENTS) -> None:
        template, faults = decode(str(file))
        assert not faults
        self._resources = template["Resources"]
        self._conditions = template["Conditions"]
        self._values: dict[str, Any] = {
            name: parameter["Default"] for name, parameter in template["Parameters"].items()
        }
        self._values |= {
            "Url": URL if route.endpoint else "",
            "AWS::AccountId": ACCOUNT_ID,
            "AWS::Partition": "aws",
            "AWS::Region": REGION,
        }
        self._outputs = template["Outputs"].values()

    @property
    def outputs(self) -> dict[str, Any]:
        return {one["Description"]: self._value(one["Value"]) for one in self._outputs}

    def of(self, kind: str) -> list[dict[str, Any]]:
        """The properties of each resource of a type that this stack has."""
        return [
            self._value(one["Properties"])
            for one in self._resources.values()
            if one["Type"] == kind and self._holds(one.get("Condition"))
        ]

    def _holds(self, condition: str | None) -> bool:
        return condition is None or bool(self._value(self._conditions[condition]))

    def _value(self, node: Any) -> Any:
        if isinstance(node, list):
            return [self._value(one) for one in node]
        if not isinstance(node, Mapping):
            return node
        ((function, argument), *others) = node.items()
        if others or not (function in {"Ref", "Condition"} or function.startswith("Fn::")):
            return {name: self._value(one) for name, one in node.items()}
        return self._called(function, argument)

    def _called(self, function: str, argument: Any) -> Any:
        if function == "Condition" and not isinstance(argument, str):
            return {"Condition": self._value(argument)}  # a policy's word, not a function
        if function == "Condition":
            return self._holds(argument)
        if function == "Ref":
            return self._ref(argument)
        if function == "Fn::Sub":
            return re.sub(r"\$\{([\w:]+)\}", lambda match: self._ref(match[1]), argument)
        if function == "Fn::GetAtt":
            name, attribute = argument.split(".") if isinstance(argument, str) else argument
            assert attribute == "Arn"
            return self._arn(name)
        if function == "Fn::Equals":
            left, right = self._value(argument)
            return left == right
        if function == "Fn::Not":
            return not self._value(argument)[0]
        assert function == "Fn::If"
        return self._value(argument[1] if self._holds(argument[0]) else argument[2])

    def _ref(self, name: str) -> Any:
        if name in self._values:
            return self._values[name]
        kind = self._resources[name]["Type"]
        properties = self._resources[name]["Properties"]
        if kind == "AWS::SES::ConfigurationSet":
            return self._value(properties["Name"])
        return self._arn(name) if kind == "AWS::SNS::Topic" else f"url of {self._arn(name)}"

    def _arn(self, name: str) -> str:
        kind, properties = self._resources[name]["Type"], self._resources[name]["Properties"]
        service = kind.split("::")[1].lower()
        own_name = self._value(properties["TopicName" if service == "sns" else "QueueName"])
        return f"arn:aws:{service}:{REGION}:{ACCOUNT_ID}:{own_name}"


@pytest.mark.parametrize("template", [EVENTS, ROLE], ids=lambda template: template.stem)
def test_cfn_lint_finds_nothing(template: Path) -> None:
    assert lint_file(template, ManualArgs(regions=["eu-central-1", "us-east-1"])) == []


def test_cfn_lint_would_find_something() -> None:
    """The control: a property misspelt."""
    assert lint(EVENTS.read_text().replace("VisibilityTimeout", "VisibleTimeout"))


@ROUTES
def test_an_instance_may_do_what_mailer_needs_and_no_more(route: EventRoute) -> None:
    (role,) = Stack(route, ROLE).of("AWS::IAM::Role")
    (policy,) = role["Policies"]
    assert policy["PolicyDocument"] == route.policy_to_run()
    (statement,) = role["AssumeRolePolicyDocument"]["Statement"]
    assert statement["Principal"] == {"Service": "ec2.amazonaws.com"}


@ROUTES
def test_queues(cloud: Cloud, clients: Aws, route: EventRoute) -> None:
    set_up(clients, route)
    stack = Stack(route)
    declared = {queue["QueueName"]: queue for queue in stack.of("AWS::SQS::Queue")}
    policies = {
        url.rpartition(":")[2]: policy["PolicyDocument"]
        for policy in stack.of("AWS::SQS::QueuePolicy")
        for url in policy["Queues"]
    }

    assert policies.keys() == declared.keys()
    assert bool(cloud.queue("mailer-events")) == ("mailer-events" in declared)
    for name, queue in declared.items():
        made = cloud.queue(name)
        assert made["Policy"] == policies[name]
        assert made.get("RedrivePolicy") == queue.get("RedrivePolicy")
        for number in ("MessageRetentionPeriod", "VisibilityTimeout"):
            assert int(made[number]) == queue[number]


@ROUTES
def test_topic_and_subscription(cloud: Cloud, clients: Aws, route: EventRoute) -> None:
    set_up(clients, route)
    stack = Stack(route)
    (topic,) = stack.of("AWS::SNS::Topic")
    (policy,) = stack.of("AWS::SNS::TopicPolicy")
    (subscription,) = stack.of("AWS::SNS::Subscription")

    assert topic == {"TopicName": route.name, "SignatureVersion": "2"}
    assert policy == {"Topics": [route.topic_arn], "PolicyDocument": cloud.topic(route)["Policy"]}
    made = cloud.subscriptions(route)[subscription["Endpoint"]]
    assert subscription["TopicArn"] == route.topic_arn
    assert subscription["Protocol"] == made["Protocol"]
    assert str(subscription["RawMessageDelivery"]).lower() == made["RawMessageDelivery"]
    for name in ("RedrivePolicy", "DeliveryPolicy"):
        assert subscription.get(name) == made.get(name)


def test_configuration_set(cloud: Cloud, clients: Aws) -> None:
    set_up(clients, BY_QUEUE)
    stack = Stack(BY_QUEUE)
    (configuration_set,) = stack.of("AWS::SES::ConfigurationSet")
    (declared,) = stack.of("AWS::SES::ConfigurationSetEventDestination")
    (made,) = cloud.destinations(configuration_set["Name"])
    destination = declared["EventDestination"]

    assert declared["ConfigurationSetName"] == configuration_set["Name"] == "mailer-events"
    types = [re.sub(r"(?=[A-Z])", "_", one).upper() for one in destination["MatchingEventTypes"]]
    assert types == made["MatchingEventTypes"]
    assert (destination["Name"], destination["Enabled"]) == (made["Name"], made["Enabled"])
    assert destination["SnsDestination"]["TopicARN"] == made["SnsDestination"]["TopicArn"]


@ROUTES
def test_outputs_are_the_settings(cloud: Cloud, route: EventRoute) -> None:
    printed = for_route(route).output
    for setting, value in Stack(route).outputs.items():
        assert f"{setting}=" in printed
        assert value.rpartition(":")[2] in printed.partition(f"{setting}=")[2].split("\n")[0]


def test_cfn_lint_knows_every_permission() -> None:
    routes = (BY_QUEUE, BY_URL)
    policies = [policy for r in routes for policy in (r.policy_to_set_up(), r.policy_to_run())]
    assert _lint(policies) == []
    for policy in policies:
        for statement in policy["Statement"]:
            statement["Action"][0] += "s"
    statements = sum(len(policy["Statement"]) for policy in policies)
    assert len(_lint(policies)) == statements, "the control: actions that there are not"


def _lint(policies: Sequence[dict[str, Any]]) -> list[Any]:
    resources = {
        f"Policy{number}": {
            "Type": "AWS::IAM::ManagedPolicy",
            "Properties": {"PolicyDocument": policy},
        }
        for number, policy in enumerate(policies)
    }
    found: list[Any] = lint(json.dumps({"Resources": resources}))
    return found
