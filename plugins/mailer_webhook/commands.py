"""`mailer webhooks …`: what the API does with endpoints, from the command line.

It works on the database itself, whether or not mailer runs; what a running mailer has to do with
it, its deliverer finds there.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextlib import closing
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mailer.settings import Settings
from mailer.variables import duration_s
from mailer_webhook.settings import WebhookSettings

if TYPE_CHECKING:
    from mailer.endpoints import Call
    from mailer.hookspecs import Shelf
    from mailer_webhook.routes import Webhook, WebhookChange

Load = Callable[[], Settings]
T = TypeVar("T")

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def webhooks() -> None:
    """Webhooks: endpoints that are told of events."""


@webhooks.command("list", epilog="\b\nExample:\n  mailer webhooks list --json | jq '.[].url'")
@as_json
@click.pass_obj
def list_(load: Load, /, as_json: bool) -> None:
    """All endpoints, and how they fare."""
    from mailer_webhook.routes import listed

    found = _do(load(), listed).webhooks
    if as_json:
        click.echo(_json(found))
    else:
        click.echo("\n".join(map(_line, found)) or "no endpoints; see `mailer webhooks add --help`")


@webhooks.command(
    epilog="\b\nExample:\n  mailer webhooks add https://example.com/hook --type bounce"
    " --topic 'news/*'"
)
@click.argument("url")
@click.option("--type", "types", multiple=True, help="Tell of this type of event; all, if none.")
@click.option("--topic", "topics", multiple=True, help="Tell of these topics; * is any characters.")
@click.option("--batch", default=1, show_default=True, help="Bring so many in one request.")
@as_json
@click.pass_obj
def add(
    load: Load,
    /,
    url: str,
    types: tuple[str, ...],
    topics: tuple[str, ...],
    batch: int,
    as_json: bool,
) -> None:
    """Make an endpoint; its secret is shown this once."""
    from mailer_webhook.routes import NewWebhook, made

    settings = load()
    body = NewWebhook(url=url, types=list(types), topics=list(topics), batch_size=batch)
    allowed = settings.of(WebhookSettings).allow_private
    _show_secret(_do(settings, made, allowed, body=body), as_json)


@webhooks.command(epilog="\b\nExample:\n  mailer webhooks remove we-0123456789abcdef")
@click.argument("endpoint")
@click.pass_obj
def remove(load: Load, /, endpoint: str) -> None:
    """Remove an endpoint; what it has not been told yet is dropped."""
    from mailer_webhook.routes import removed

    _do(load(), removed, endpoint_id=endpoint)
    click.echo(f"{endpoint}: removed")


@webhooks.command(epilog="\b\nExample:\n  mailer webhooks rotate we-0123456789abcdef")
@click.argument("endpoint")
@as_json
@click.pass_obj
def rotate(load: Load, /, endpoint: str, as_json: bool) -> None:
    """Make a new secret, shown this once; for a day the old one signs beside it."""
    from mailer_webhook.routes import WebhookChange

    _show_secret(_change(load(), endpoint, WebhookChange(rotate_secret=True)), as_json)


@webhooks.command(epilog="\b\nExample:\n  mailer webhooks on we-0123456789abcdef")
@click.argument("endpoint")
@click.pass_obj
def on(load: Load, /, endpoint: str) -> None:
    """Switch an endpoint on: what waits for it is sent at once."""
    from mailer_webhook.routes import WebhookChange

    click.echo(_line(_change(load(), endpoint, WebhookChange(enabled=True))))


@webhooks.command(epilog="\b\nExample:\n  mailer webhooks off we-0123456789abcdef")
@click.argument("endpoint")
@click.pass_obj
def off(load: Load, /, endpoint: str) -> None:
    """Switch an endpoint off: what waits for it waits on, new events pass it by."""
    from mailer_webhook.routes import WebhookChange

    click.echo(_line(_change(load(), endpoint, WebhookChange(enabled=False))))


@webhooks.command(epilog="\b\nExample:\n  mailer webhooks test we-0123456789abcdef")
@click.argument("endpoint")
@click.pass_obj
def test(load: Load, /, endpoint: str) -> None:
    """Send an event of the type test, from here and now, and print the answer."""
    from mailer_webhook.client import Session
    from mailer_webhook.connecting import Connector
    from mailer_webhook.endpoints import Endpoints
    from mailer_webhook.payload import test_event
    from mailer_webhook.signing import signed_headers

    settings = load()
    found = _do(settings, lambda call, shelf: Endpoints(shelf).get(endpoint))
    now_ms = _now_ms()
    webhook_id, body = test_event(endpoint, now_ms)
    headers = signed_headers(webhook_id, body, secrets=found.signing_keys(now_ms), now_ms=now_ms)
    connector = Connector(settings.of(WebhookSettings).allow_private)
    with closing(Session(connector, found.choice.url)) as session:
        answer = session.post(body, headers)
    if not answer.good:
        raise click.ClickException(f"{endpoint} did not take it: {answer.detail}")
    click.echo(f"{endpoint} took it in {_now_ms() - now_ms} ms: {answer.detail}")


def _since_ms(_context: click.Context, _option: click.Parameter, value: str) -> int:
    """Milliseconds since 1970, from a length of time or a time."""
    try:
        if re.fullmatch(r"[0-9]+[smhd]", value):
            return _now_ms() - 1000 * duration_s(value)
        return int(datetime.fromisoformat(value).timestamp() * 1000)
    except (ValueError, OverflowError):
        raise click.BadParameter(
            f"{value!r} is neither a length of time, as 2h or 3d, nor a time"
        ) from None


@webhooks.command(
    epilog="\b\nExamples:\n  mailer webhooks replay we-0123456789abcdef --since 2h\n"
    "  mailer webhooks replay we-0123456789abcdef --since 2030-01-31T09:00:00Z"
)
@click.argument("endpoint")
@click.option(
    "--since", callback=_since_ms, required=True, help="2h, 3d, or a time, as RFC 3339 has it."
)
@click.pass_obj
def replay(load: Load, /, endpoint: str, since: int) -> None:
    """Tell an endpoint again what has happened since then, under the same ids."""
    from mailer_webhook.endpoints import Endpoints
    from mailer_webhook.replay import ask

    def asked(call: Call, shelf: Shelf) -> bool:
        found = Endpoints(shelf).get(endpoint)
        ask(shelf, endpoint, since_ms=since, now_ms=call.now_ms)
        return found.enabled

    when = "a running mailer does it" if _do(load(), asked) else "it waits until that is on"
    click.echo(f"{endpoint} is to be told again; {when}")


def _do(
    settings: Settings,
    handler: Callable[..., T],
    *arguments: Any,
    body: Any = None,
    **path: str,
) -> T:
    """What the API would do, in a transaction of our own."""
    from mailer.endpoints import Call
    from mailer.records import open_records

    with open_records(settings, "webhook") as records, records.write():
        return handler(*arguments, Call(path, {}, body, _now_ms()), records.shelf)


def _change(settings: Settings, endpoint_id: str, change: WebhookChange) -> Webhook:
    from mailer_webhook.routes import changed

    allowed = settings.of(WebhookSettings).allow_private
    return _do(settings, changed, allowed, body=change, endpoint_id=endpoint_id)


def _show_secret(webhook: Webhook, as_json: bool) -> None:
    if as_json:
        click.echo(_json(webhook))
    else:
        click.echo(f"{_line(webhook)}\nsecret, shown only now: {webhook.secret}")


def _line(webhook: Webhook) -> str:
    state = "on" if webhook.enabled else f"off since {webhook.off_at}: {webhook.off_reason}"
    if webhook.enabled and webhook.failing_since:
        state = f"failing since {webhook.failing_since}: {webhook.last_failure}"
    counts = (
        f"{webhook.waiting} waiting, {webhook.delivered} delivered, {webhook.given_up} given up"
    )
    return f"{webhook.endpoint_id}  {webhook.url}  {counts}  {state}"


def _json(value: object) -> str:
    import msgspec

    return msgspec.json.format(msgspec.json.encode(value)).decode()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
