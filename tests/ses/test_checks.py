"""What `mailer doctor` says of an AWS account; SNS and SQS are moto's, SES the fake."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from mailer_ses import checks, route_checks
from mailer_ses.policies import EventRoute
from mailer_ses.setup import Aws, queue_url

from mailer import plugins
from mailer.hookspecs import Check
from mailer.vocabulary import CheckResult
from tests.installation import Installation
from tests.ses.authority import Authority
from tests.ses.cloud import ACCOUNT_ID, REGION, Cloud, set_up
from tests.ses.events import TOPIC_ARN
from tests.ses.harness import FakeSes

OK, WARNING, FAILURE = CheckResult
BY_QUEUE = EventRoute(REGION, ACCOUNT_ID, "mailer-events", "mailer-events")
BY_URL = replace(BY_QUEUE, endpoint="https://mail.example.com/v1/events/results")
USUAL = {"AWS_SES_FROM_EMAIL": "Shop <shop@mail.example.org>", "AWS_REGION": REGION}
ROUTED = {
    "SNS_TOPIC_ARNS": BY_URL.topic_arn,
    "SES_CONFIGURATION_SET": "mailer-events",
    "SERVER_URL": "https://mail.example.com",
}


def account(ses: FakeSes, now: datetime | None = None, **environ: str) -> dict[str, Check]:
    settings = plugins.settings(plugins.load(), USUAL | environ)
    found = checks.look(settings, now or datetime.now(UTC))
    return {check.name.removeprefix("ses: "): check for check in found}


def route(**environ: str) -> dict[str, Check]:
    settings = plugins.settings(plugins.load(), USUAL | environ)
    return {check.name.removeprefix("ses: "): check for check in route_checks.look(settings)}


def test_an_account_that_is_well(ses: FakeSes) -> None:
    ses.told(max_send_rate=14.0, max_24h=50_000.0, sent_24h=1_234.0)
    found = account(ses)
    assert {name: check.result for name, check in found.items()} == dict.fromkeys(
        ["credentials", "account", "quota", "rate", "clock", "From address"], OK
    )
    assert found["credentials"].finding == "found by boto3 (env)"
    assert found["quota"].finding == "1,234 of 50,000 used in the last 24 hours"
    assert "example.org is verified" in found["From address"].finding


@pytest.mark.parametrize(
    ("told", "name", "result", "words"),
    [
        ({"production": False}, "sandbox", WARNING, "only verified recipients"),
        ({"sending_enabled": False}, "account", FAILURE, "sending is paused"),
        ({"enforcement": "PROBATION"}, "account", WARNING, "PROBATION"),
        ({"enforcement": "SHUTDOWN"}, "account", FAILURE, "SHUTDOWN"),
        ({"max_24h": 100.0, "sent_24h": 80.0}, "quota", WARNING, "80 of 100 used"),
        ({"max_24h": -1.0}, "quota", OK, "no limit"),
        ({"max_send_rate": 1.0}, "rate", WARNING, "MAX_SEND_PER_SECOND says 12: 1 it is"),
        ({"verified": ["other.example"]}, "From address", FAILURE, "not verified in eu-"),
        ({"verified": ["example"]}, "From address", FAILURE, "is not verified"),
        ({"verified": [], "unverified": ["example.org"]}, "From address", FAILURE, "not complete"),
        ({"verified": ["shop@mail.example.org"]}, "From address", OK, "may be used"),
        ({"denied": ["GetEmailIdentity"]}, "From address", WARNING, "ses:GetEmailIdentity"),
        ({"access_key_ids": ["AKIAOTHER"]}, "account", FAILURE, "security token"),
        ({"account_error": {"status": 403, "code": "AccessDeniedException", "words": "no"}},
         "account", WARNING, "may not be asked for"),
    ],
)  # fmt: skip
def test_what_is_amiss_is_named(
    ses: FakeSes, told: dict[str, Any], name: str, result: CheckResult, words: str
) -> None:
    ses.told(**told)
    check = account(ses)[name]
    assert (check.result, words in check.finding) == (result, True), check
    assert check.advice or result is OK


def test_a_clock_that_differs_from_aws_s(ses: FakeSes) -> None:
    check = account(ses, datetime.now(UTC) - timedelta(seconds=100))["clock"]
    assert check.result is WARNING
    assert "s behind AWS's" in check.finding


def test_without_credentials_nothing_is_asked(
    ses: FakeSes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    ((name, check),) = account(ses).items()
    assert (name, check.result) == ("credentials", FAILURE)


def test_without_an_answer_it_ends_soon(aws: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_SESV2", "http://127.0.0.1:1")
    found = list(checks.look(plugins.settings(plugins.load(), USUAL), datetime.now(UTC)))
    assert found[-1].result is FAILURE
    assert "no answer from eu-central-1" in found[-1].finding


def test_without_a_route_events_are_missed(cloud: Cloud) -> None:
    ((name, check),) = route().items()
    assert (name, check.result) == ("events", WARNING)
    assert "SNS_TOPIC_ARNS is not set" in check.finding


def test_a_route_by_url(cloud: Cloud, clients: Aws) -> None:
    set_up(clients, BY_URL)
    found = route(**ROUTED)
    assert {name: check.result for name, check in found.items()} == {
        "events": OK,
        "subscription": OK,
    }
    assert "--sqs" in found["subscription"].finding
    elsewhere = route(**ROUTED | {"SERVER_URL": "https://new.example.com"})
    assert elsewhere["subscription"].result is FAILURE


def test_a_route_by_url_with_a_queue_for_the_rest(cloud: Cloud, clients: Aws) -> None:
    set_up(clients, BY_URL)
    found = route(**ROUTED, SQS_QUEUE_URL=queue_url(clients, BY_URL))
    assert {check.result for check in found.values()} == {OK}
    assert "the queue takes what it gives up" in found["subscription"].finding


def test_a_route_by_queue(cloud: Cloud, clients: Aws) -> None:
    set_up(clients, BY_QUEUE)
    url = queue_url(clients, BY_QUEUE)
    cloud.client("sqs").send_message(QueueUrl=url, MessageBody="x")
    found = route(**ROUTED, SQS_QUEUE_URL=url)
    assert {check.result for check in found.values()} == {OK}
    assert "about 1 messages" in found["queue"].finding
    assert found["subscription"].finding == f"{BY_QUEUE.topic_arn} fills the queue"
    gone = route(**ROUTED, SQS_QUEUE_URL=url + "-gone")["queue"]
    assert gone.result is FAILURE

    (arn,) = (one["SubscriptionArn"] for one in cloud.subscriptions(BY_QUEUE).values())
    cloud.client("sns").unsubscribe(SubscriptionArn=arn)
    assert "nor fills the queue" in route(**ROUTED, SQS_QUEUE_URL=url)["subscription"].finding


def test_a_route_that_is_broken(cloud: Cloud, clients: Aws) -> None:
    set_up(clients, BY_URL)
    ses = cloud.client("sesv2")
    names = {"ConfigurationSetName": "mailer-events", "EventDestinationName": "mailer-events"}
    destination = BY_URL.event_destination() | {"MatchingEventTypes": ["SEND", "BOUNCE"]}
    ses.update_configuration_set_event_destination(**names, EventDestination=destination)
    partly = route(**ROUTED)["events"]
    assert (partly.result, "does not publish REJECT, COMPLAINT" in partly.finding) == (
        WARNING,
        True,
    )

    ses.update_configuration_set_event_destination(
        **names, EventDestination=destination | {"Enabled": False}
    )
    assert "publishes to no topic" in route(**ROUTED)["events"].finding
    assert route(**ROUTED | {"SES_CONFIGURATION_SET": "gone"})["events"].result is FAILURE
    assert route(**ROUTED | {"SES_CONFIGURATION_SET": ""})["events"].result is WARNING


@pytest.fixture
def round_trip(tmp_path: Path) -> Iterator[tuple[Installation, FakeSes]]:
    """mailer, and a fake whose events come back to it, signed."""
    authority = tmp_path / "authority"
    authority.mkdir()
    Authority.make(authority)
    fake = FakeSes.start("--authority", str(authority))
    installation = Installation(
        tmp_path,
        **USUAL | {"AWS_SES_FROM_EMAIL": "shop@example.org"},
        AWS_ACCESS_KEY_ID="AKIATEST",
        AWS_SECRET_ACCESS_KEY="secret",
        AWS_ENDPOINT_URL_SESV2=fake.url,
        AWS_ENDPOINT_URL_SNS="http://127.0.0.1:1",
        SNS_TOPIC_ARNS=TOPIC_ARN,
        SNS_CERT_DIR=str(authority),
        JWT_SECRET="a secret of thirty-two bytes, or more",
    )
    installation.run()
    yield installation, fake
    installation.stop()
    fake.stop()


def test_mail_goes_out_and_comes_back_as_events(
    round_trip: tuple[Installation, FakeSes],
) -> None:
    installation, fake = round_trip
    fake.told(events_url=f"{installation.url}/v1/events/results")
    done = installation.mailer("doctor", "--send", "--json")
    lines = {line["name"]: line for line in json.loads(done.stdout)}
    trials = [lines[f"trial: {kind}"] for kind in ("delivery", "bounce", "complaint")]
    assert [line["result"] for line in trials] == ["ok"] * 3, trials
    assert installation.json("suppressions", "list") == []

    fake.told(events_url="")  # the control: nothing comes back
    silent = installation.mailer("doctor", "--send", "--patience", "2")
    assert silent.returncode == 1
    assert silent.stdout.count("within 2 s; it is sent") == 3
