"""`mailer skylark account`: what Skylark says of the account."""

from __future__ import annotations

from collections.abc import Callable

import click

from mailer.errors import SettingFault, SettingsError
from mailer.settings import Settings
from mailer_skylark import SkylarkSettings
from mailer_skylark.transport import Skylark


@click.group()
def skylark() -> None:
    """The mail provider Skylark."""


@skylark.command(epilog="\b\nExample:\n  mailer skylark account")
@click.pass_obj
def account(load: Callable[[], Settings], /) -> None:
    """What Skylark allows this account."""
    ours = load().of(SkylarkSettings)
    if ours.url is None:
        raise SettingsError([SettingFault("SKYLARK_URL", "is not set", "https://host")])
    quota = Skylark(ours.url, ours.key).quota()
    click.echo(f"{quota.max_per_second:g} mails a second, {quota.max_24h:,} a day")
