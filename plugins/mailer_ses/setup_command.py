"""`mailer ses setup`: says what an AWS account lacks for mailer to learn of its mail, and adds it.

It asks before it changes anything, and ends with the settings that belong to what is there now.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import click

from mailer.settings import Settings
from mailer_ses.settings import SesSettings

if TYPE_CHECKING:
    from mailer_ses.policies import EventRoute
    from mailer_ses.setup import Aws

CALLBACK: Final = "/v1/events/results"
UNKNOWN_ACCOUNT: Final = "ACCOUNT_ID"


def _name(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    if value is not None and not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", value):
        raise click.BadParameter("1 to 64 of the characters A-Z a-z 0-9 _ -")
    return value


def _endpoint(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    if value is None:
        return None
    parts = urlsplit(value)
    if parts.scheme != "https" or not parts.hostname or parts.query or parts.fragment:
        raise click.BadParameter("an address as https://mail.example.com, where AWS reaches mailer")
    return value.rstrip("/").removesuffix(CALLBACK) + CALLBACK


@click.command(
    epilog="\b\nExamples:\n  mailer ses setup --sqs\n"
    "  mailer ses setup --topic mail-events --url https://mail.example.com\n"
    "  mailer ses setup --sqs --print-policy=run > policy.json"
)
@click.option(
    "--topic", default="mailer-events", show_default=True, callback=_name,
    help="Name of the SNS topic; the queues' names begin with it.",
)  # fmt: skip
@click.option(
    "--url", callback=_endpoint, help="mailer's public https address, which SNS then posts to."
)
@click.option(
    "--sqs", is_flag=True, help="A queue instead, which mailer reads: needs no public address."
)
@click.option(
    "--configuration-set", callback=_name,
    help="Name of the SES configuration set; SES_CONFIGURATION_SET, else as the topic.",
)  # fmt: skip
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option(
    "--print-policy", type=click.Choice(["setup", "run", "both"]), is_flag=False, flag_value="both",
    help="Print the least IAM policy for this command (=setup), for mailer itself (=run), or both;"
    " change nothing.",
)  # fmt: skip
@click.pass_obj
def setup(
    load: Callable[[], Settings], /, topic: str, url: str | None, sqs: bool,
    configuration_set: str | None, yes: bool, print_policy: str | None,
) -> None:  # fmt: skip
    """Create or repair what tells mailer of deliveries, bounces and complaints.

    A configuration set, an SNS topic, its subscription (--url or --sqs) and a dead-letter queue. It
    says what it will do and asks; what is as it should be is left alone, so it may be repeated.
    """
    from mailer_ses.account import Account
    from mailer_ses.policies import EventRoute
    from mailer_ses.setup import Aws, SetupError

    if sqs == bool(url):
        raise click.UsageError("say either --sqs or --url https://…")
    settings = load()
    account = Account.required(settings)
    aws = Aws.of(account)
    try:
        partition, account_id, who = aws.identity()
    except SetupError as error:
        if print_policy is None:
            raise
        click.echo(f"Put your account's number for {UNKNOWN_ACCOUNT}: {error}", err=True)
        partition, account_id, who = "aws", UNKNOWN_ACCOUNT, ""
    set_name = configuration_set or settings.of(SesSettings).configuration_set or topic
    route = EventRoute(account.region, account_id, topic, set_name, url, partition)
    if print_policy:
        click.echo(_policies(route, print_policy))
        return
    click.echo(f"AWS account {account_id} in {account.region}, as {who}:")
    _repair(aws, route, yes=yes)
    click.echo("\n".join(_result(aws, route)))


def _policies(route: EventRoute, which: str) -> str:
    policies: dict[str, tuple[str, Any]] = {
        "setup": ("For whoever runs `mailer ses setup`:", route.policy_to_set_up()),
        "run": ("For mailer itself, as an instance role or a user:", route.policy_to_run()),
    }
    if which != "both":
        return json.dumps(policies[which][1], indent=2)
    return "\n\n".join(f"{head}\n{json.dumps(body, indent=2)}" for head, body in policies.values())


def _repair(aws: Aws, route: EventRoute, *, yes: bool) -> None:
    """Raises SetupError, and click.Abort when the answer is no."""
    from mailer_ses.setup import SetupError, changes, in_words

    todo = changes(aws, route)
    if not todo:
        click.echo("All is as it should be; nothing to do.")
        return
    for change in todo:
        click.echo(f"  - {change.sentence}")
    if not yes:
        click.confirm("Do this?", abort=True)
    for change in todo:
        try:
            with in_words():
                change.make()
        except SetupError as error:
            raise SetupError(f"{error}. What was done before stays; run this again then") from None
        click.echo(f"done: {change.what}")


def _result(aws: Aws, route: EventRoute) -> Iterator[str]:
    from mailer_ses.setup import PENDING, queue_url, subscriptions

    there = subscriptions(aws, route)
    yield "\nFor mailer's environment or .env, then restart it:\n"
    yield f"SES_CONFIGURATION_SET={route.configuration_set}"
    yield f"SNS_TOPIC_ARNS={route.topic_arn}"
    yield f"SQS_QUEUE_URL={queue_url(aws, route)}"
    if route.endpoint:
        yield (
            "\nWhat SNS could not deliver within its hour waits in that queue for 14 days, and"
            " mailer fetches it from there."
        )
    if there.get(route.subscriber) == PENDING:
        yield (
            f"\n{route.endpoint} has yet to confirm its subscription. mailer does so by itself once"
            " it runs with these settings; SNS asks for an hour, and again when this command is"
            " repeated."
        )
    for other in sorted(there.keys() - {route.subscriber}):
        yield f"\nThe topic is also delivered to {other}, which was left alone."
