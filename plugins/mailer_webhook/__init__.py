"""Webhooks: events of the log, told to endpoints by HTTP as Standard Webhooks has it.

`mailer_event` puts a delivery on the shelf for each endpoint that wants the event; the worker
`webhooks` (`deliverer`) takes it from there. Endpoints are made by WEBHOOK_ENDPOINTS, the API and
commands.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import click

from mailer.endpoints import Endpoint as Route
from mailer.hookspecs import Access, Event, Shelf, Worker, hookimpl
from mailer.settings import Settings
from mailer_webhook.settings import WebhookSettings

__all__ = [
    "mailer_commands",
    "mailer_event",
    "mailer_idle",
    "mailer_routes",
    "mailer_settings",
    "mailer_status",
    "mailer_workers",
]

# Each hook imports what it needs: most processes use none of it.


@hookimpl
def mailer_settings() -> type:
    return WebhookSettings


@hookimpl
def mailer_event(event: Event, shelf: Shelf) -> None:
    from mailer_webhook.endpoints import Endpoints
    from mailer_webhook.payload import body_of
    from mailer_webhook.queue import Delivery, add

    wanted_by = [endpoint for endpoint in Endpoints(shelf).all() if endpoint.wants(event)]
    if wanted_by:
        delivery = Delivery.of(event, body_of(event))
        for endpoint in wanted_by:
            add(shelf, endpoint.endpoint_id, delivery)


@hookimpl
def mailer_workers(settings: Settings) -> Mapping[str, Worker]:
    return {"webhooks": lambda access: _deliver(settings.of(WebhookSettings), access)}


@hookimpl
def mailer_idle(settings: Settings, shelf: Shelf) -> bool:
    """Without an endpoint, once nothing is left of those there were."""
    return not settings.of(WebhookSettings).endpoints and not shelf.read(limit=1)


@hookimpl
def mailer_routes(settings: Settings) -> Sequence[Route]:
    from mailer_webhook.routes import routes

    return routes(settings.of(WebhookSettings).allow_private)


@hookimpl
def mailer_commands(cli: click.Group) -> None:
    from mailer_webhook.commands import webhooks

    cli.add_command(webhooks)


@hookimpl
def mailer_status(shelf: Shelf) -> Sequence[str]:
    from mailer_webhook.endpoints import Endpoints

    troubles = ((e.endpoint_id, e.trouble()) for e in Endpoints(shelf).all())
    return [f"endpoint {id_} {trouble}" for id_, trouble in troubles if trouble]


def _deliver(settings: WebhookSettings, access: Access) -> None:
    from mailer_webhook.connecting import Connector
    from mailer_webhook.deliverer import Deliverer
    from mailer_webhook.endpoints import Endpoints

    with access.write():
        Endpoints(access.shelf).match_settings(settings.endpoints, _now_ms())
    Deliverer(access, Connector(settings.allow_private), now_ms=_now_ms).run()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
