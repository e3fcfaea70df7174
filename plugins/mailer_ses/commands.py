"""`mailer ses …`, commands about the AWS account that mail is sent with, and the options by which
`mailer suppressions` reads and fills the account's own list.

boto3 is imported when a command runs: the module is read at every start of `mailer`.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click

from mailer.hookspecs import Probe
from mailer.mail import Suppression
from mailer.settings import Settings
from mailer.vocabulary import EventType
from mailer_ses.setup_command import setup

if TYPE_CHECKING:
    from mailer_ses.account import Client


@click.group()
def ses() -> None:
    """Amazon SES: the account, and what mailer needs there."""


@ses.command(epilog="\b\nExample:\n  mailer ses account --json | jq .SendQuota")
@click.option("--json", "as_json", is_flag=True, help="Print SES's answer (GetAccount) as JSON.")
@click.pass_obj
def account(load: Callable[[], Settings], /, as_json: bool) -> None:
    """The account mail is sent with: sandbox, rate, quota, standing."""
    client = _client(load())
    answer = client.ask("get_account")
    answer.pop("ResponseMetadata", None)
    if as_json:
        click.echo(json.dumps(answer, indent=2, default=str))
    else:
        click.echo("\n".join(_lines(client.account.region, answer)))


def add_options(cli: click.Group) -> None:
    """`--from-ses` and `--to-ses` for the suppression list, `--send` for the doctor."""
    suppressions = cli.commands["suppressions"]
    assert isinstance(suppressions, click.Group)
    import_, export = (suppressions.commands[name] for name in ("import", "export"))
    options = (
        (import_, "--from-ses", "source", _from_ses, "Read the list of the SES account instead."),
        (export, "--to-ses", "target", _to_ses, "Add to the list of the SES account instead."),
        (
            cli.commands["doctor"],
            "--send",
            "probes",
            _probes,
            "Send mail to the SES simulator too.",
        ),
    )
    for command, name, parameter, function, help_text in options:
        command.params.append(
            click.Option(
                [name, parameter],
                is_flag=True,
                flag_value=function,
                type=click.UNPROCESSED,
                help=help_text,
            )
        )


def _from_ses(settings: Settings) -> Iterator[Suppression]:
    from mailer_ses import suppression

    return suppression.listed(_client(settings), time.sleep)


def _to_ses(settings: Settings, entries: Iterable[Suppression]) -> str:
    from mailer_ses import suppression

    def progress(added: int) -> None:
        if added % 60 == 0:  # about a minute's worth
            click.echo(f"{added:,} added so far", err=True)

    client = _client(settings)
    added, present, left = suppression.put(client, entries, time.sleep, progress)
    return (
        f"{added:,} added to the list of the SES account, {present:,} were on it already; {left:,}"
        " left out, for SES lists bounces and complaints that hold everywhere, and no others"
    )


def _probes() -> list[Probe]:
    """https://docs.aws.amazon.com/ses/latest/dg/send-an-email-from-console.html, the simulator."""
    label = secrets.token_hex(4)
    expected = {
        "success": EventType.DELIVERY,
        "bounce": EventType.BOUNCE,
        "complaint": EventType.COMPLAINT,
    }
    return [
        Probe(f"{name}+{label}@simulator.amazonses.com", "ses", event)
        for name, event in expected.items()
    ]


def _client(settings: Settings) -> Client:
    from mailer_ses.account import Account, Client

    return Client(Account.required(settings), connections=1)


def _lines(region: str, answer: dict[str, Any]) -> Iterator[str]:
    quota = answer.get("SendQuota", {})
    daily = quota.get("Max24HourSend", -1)
    sandbox = answer.get("ProductionAccessEnabled") is False
    yield f"region    {region}" + (
        ", sandbox: only verified recipients get mail" if sandbox else ""
    )
    yield f"sending   {'enabled' if answer.get('SendingEnabled', True) else 'paused'}"
    yield f"standing  {answer.get('EnforcementStatus', 'unknown')}"
    yield f"rate      {quota.get('MaxSendRate', 0):,.10g}/s"
    yield (
        f"24 hours  {quota.get('SentLast24Hours', 0):,.0f} sent of "
        + ("no limit" if daily < 0 else f"{daily:,.0f}")
    )


ses.add_command(setup)
