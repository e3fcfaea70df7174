"""Commands that show one thing whole: a mail with its history, the settings, the plugins."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Final

import click
from rich.console import Group

from mailer import plugins
from mailer.api import times
from mailer.clock import Clock, SystemClock
from mailer.commands import ways_out
from mailer.commands.database import open_store
from mailer.commands.tables import console, table
from mailer.errors import NotFound
from mailer.masking import address_hash
from mailer.settings import Settings
from mailer.store import Store
from mailer.store.mails import Mail
from mailer.vocabulary import STATE_MEANINGS, WAITS_FOR_MEANINGS, State

MASKED: Final = "********"


@click.command(epilog="\b\nExample:\n  mailer show 3f9c0a1b2c3d4e5f-0")
@click.argument("mail_id")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_obj
def show(load: Callable[[], Settings], /, mail_id: str, as_json: bool) -> None:
    """Where a mail is, why, and all its history.

    MAIL_ID is the request_id that the API answered.
    """
    settings = load()
    store = open_store(settings)
    try:
        found = store.mails.get(mail_id)
        if found is None:
            raise NotFound(f"there is no mail {mail_id}")
        told = _mail(store, settings, found, SystemClock())
    finally:
        store.close()
    if as_json:
        click.echo(json.dumps(told, indent=2))
    else:
        console().print(_mail_shown(told))


@click.command(
    "hash",
    epilog="\b\nExample:\n  journalctl MAILER_RECIPIENT=$(mailer hash ann@example.com)",
)
@click.argument("address")
@click.pass_obj
def hash_(load: Callable[[], Settings], /, address: str) -> None:
    """The hash that stands for an address in this installation's log.

    Its key is in the database, so that nobody who has the log alone can try addresses.
    """
    store = open_store(load())
    try:
        click.echo(address_hash(store.signing_key(), address))
    finally:
        store.close()


@click.command(
    epilog="\b\nExample:\n  mailer config --json | jq '.[] | select(.origin != \"default\")'"
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
@click.pass_obj
def config(load: Callable[[], Settings], /, as_json: bool) -> None:
    """The settings in effect, and where each came from.

    Secrets are masked.
    """
    rows = _settings(load())
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    listed = ((row["name"], row["value"], row["origin"]) for row in rows)
    console().print(table(("setting", "value", "from"), listed))


@click.command("plugins", epilog="\b\nExample:\n  mailer plugins --json | jq '.[].package'")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
def installed(as_json: bool) -> None:
    """The plugins that are installed, what each does, and why one is refused.

    A plugin that is refused stops what would start; commands that only look go on without it.
    """
    _, found = plugins.find()
    if as_json:
        click.echo(json.dumps([asdict(plugin) for plugin in found], indent=2))
        return
    rows = [(p.name, p.package, ", ".join(p.hooks) or p.refused) for p in found]
    console().print(table(("plugin", "package", "hooks"), rows))


def _settings(settings: Settings) -> list[dict[str, Any]]:
    return [
        {
            "name": variable.name,
            "value": MASKED if variable.secret and value != variable.default else _written(value),
            "origin": settings.chosen_because.get(variable.name, "default"),
            "secret": variable.secret,
            "about": variable.doc,
        }
        for variable, value in settings.listed()
    ]


def _written(value: object) -> str | None:
    """A value much as it would be written in `.env`."""
    match value:
        case None | ():
            return None
        case bool():
            return "1" if value else "0"
        case (str(host), int(port)):
            return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        case tuple():
            return ",".join(map(str, value))
        case float():
            return f"{value:g}"
        case _:
            return str(value) or None


def _mail(store: Store, settings: Settings, mail: Mail, clock: Clock) -> dict[str, Any]:
    return {
        "request_id": mail.request_id,
        "batch_id": mail.batch_id,
        "topic_id": mail.topic_id,
        "recipient": mail.recipient,
        "name": mail.name,
        "subject": mail.subject,
        "state": mail.state,
        "meaning": STATE_MEANINGS[mail.state],
        "waits_for": mail.waits_for,
        "why_it_waits": _why(store, settings, mail, clock),
        "lane": mail.lane,
        "transport": mail.transport,
        "provider_id": mail.provider_id,
        "detail": mail.detail,
        "http_request_id": mail.http_request_id,
        "accepted_at": times.written_or_none(mail.accepted_at_ms),
        "due_at": times.written_or_none(mail.due_at_ms),
        "state_at": times.written_or_none(mail.state_at_ms),
        "attempts": [
            {
                "attempt": attempt.attempt,
                "transport": attempt.transport,
                "started_at": times.written_or_none(attempt.started_at_ms),
                "ended_at": times.written_or_none(attempt.ended_at_ms),
                "outcome": attempt.outcome,
                "detail": attempt.detail,
                "provider_id": attempt.provider_id,
            }
            for attempt in store.mails.attempts(mail.id)
        ],
        "events": [
            {
                "type": event.type,
                "at": times.written_or_none(event.at_ms),
                "source": event.source,
                "detail": event.detail,
            }
            for event in store.mails.events(mail.id)
        ],
    }


def _why(store: Store, settings: Settings, mail: Mail, clock: Clock) -> str | None:
    """Everything known to hold back a mail that is not finished; None when nothing does."""
    if mail.state is State.UNCERTAIN:
        return "for the provider's word, else for UNCERTAIN_GRACE_S; then UNCERTAIN_POLICY decides"
    if mail.waits_for is None:
        return None
    reasons = [WAITS_FOR_MEANINGS[mail.waits_for]]
    reasons += [
        line
        for transport in ways_out.transports(store, settings, clock)
        if transport["transport"] == mail.transport
        for line in ways_out.obstacles(transport)
    ]
    ways = {mail.transport, f"{mail.transport}@{mail.recipient.rpartition('@')[2]}"}
    reasons += [
        ways_out.limit_line(limit)
        for limit in ways_out.limits(store, settings, clock)
        if limit["way"] in ways and limit["bulk_waits_until"]
    ]
    if not store.senders.all():
        reasons.append("no sender runs: start `mailer supervise`")
    if mail.detail:
        reasons.append(f"the last attempt: {mail.detail}")
    return "; ".join(reasons)


def _mail_shown(told: dict[str, Any]) -> Group:
    facts = [
        (name, value)
        for name, value in told.items()
        if name not in {"attempts", "events"} and value not in (None, "")
    ]
    lists = [told[name] for name in ("attempts", "events") if told[name]]
    return Group(
        table(("mail", ""), facts),
        *(table(list(rows[0]), [list(row.values()) for row in rows]) for rows in lists),
    )
