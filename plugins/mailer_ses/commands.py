"""`mailer ses …`: commands about the AWS account that mail is sent with.

boto3 is imported when a command runs: the module is read at every start of `mailer`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import click

from mailer.settings import Settings
from mailer_ses.setup_command import setup


@click.group()
def ses() -> None:
    """Amazon SES: the account, and what mailer needs there."""


@ses.command(epilog="\b\nExample:\n  mailer ses account --json | jq .SendQuota")
@click.option("--json", "as_json", is_flag=True, help="Print SES's answer (GetAccount) as JSON.")
@click.pass_obj
def account(load: Callable[[], Settings], /, as_json: bool) -> None:
    """The account mail is sent with: sandbox, rate, quota, standing."""
    from mailer_ses.account import Account, Client

    configured = Account.required(load())
    answer = Client(configured, connections=1).call("get_account", {})
    answer.pop("ResponseMetadata", None)
    if as_json:
        click.echo(json.dumps(answer, indent=2, default=str))
    else:
        click.echo("\n".join(_lines(configured.region, answer)))


def _lines(region: str, answer: dict[str, Any]) -> Iterator[str]:
    quota = answer.get("SendQuota", {})
    daily = quota.get("Max24HourSend", -1)
    sandbox = answer.get("ProductionAccessEnabled") is False
    yield f"region    {region}" + (
        ", sandbox: only verified recipients get mail" if sandbox else ""
    )
    yield f"sending   {'enabled' if answer.get('SendingEnabled', True) else 'paused'}"
    yield f"standing  {answer.get('EnforcementStatus', 'unknown')}"
    yield f"rate      {quota.get('MaxSendRate', 0):g}/s"
    yield (
        f"24 hours  {quota.get('SentLast24Hours', 0):,.0f} sent of "
        + ("no limit" if daily < 0 else f"{daily:,.0f}")
    )


ses.add_command(setup)
