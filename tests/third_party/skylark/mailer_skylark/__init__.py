"""Skylark, a mail provider that does not exist: a transport, its callbacks, and a command.

It takes whole messages by HTTP and tells later, in signed callbacks, what became of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import click

from mailer.hookspecs import ProviderEvent, Transport, hookimpl
from mailer.settings import Settings
from mailer.variables import base_url, setting, text

mailer_hook_api = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SkylarkSettings:
    url: str | None = setting(
        "SKYLARK_URL",
        default=None,
        parse=base_url,
        accepted="https://host",
        doc="Where Skylark's API is; without it there is no such transport.",
    )
    key: str = setting(
        "SKYLARK_KEY",
        default="",
        secret=True,
        parse=text,
        accepted="a key of the account",
        doc="What we call Skylark with, and what it signs its callbacks with.",
    )


@hookimpl
def mailer_settings() -> type:
    return SkylarkSettings


@hookimpl
def mailer_transports(settings: Settings) -> Mapping[str, Transport]:
    from mailer_skylark.transport import Skylark

    ours = settings.of(SkylarkSettings)
    return {"skylark": Skylark(ours.url, ours.key)} if ours.url else {}


@hookimpl
def mailer_notifications(
    settings: Settings, headers: Mapping[str, str], body: bytes
) -> Sequence[ProviderEvent] | None:
    from mailer_skylark.callbacks import translated

    return translated(settings.of(SkylarkSettings).key, headers, body)


@hookimpl
def mailer_commands(cli: click.Group) -> None:
    from mailer_skylark.commands import skylark

    cli.add_command(skylark)
