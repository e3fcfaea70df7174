"""`/v1/webhooks`: endpoints by API. A secret is in the answer that made it, and in no other."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

import msgspec
from msgspec import UNSET, Struct, UnsetType

from mailer.endpoints import Call, Scope
from mailer.endpoints import Endpoint as Route
from mailer.errors import Conflict
from mailer.hookspecs import Shelf
from mailer_webhook.addresses import Network
from mailer_webhook.endpoints import Choice, Endpoint, Endpoints, written
from mailer_webhook.queue import waiting

ALL: Final = "/v1/webhooks"
ONE: Final = "/v1/webhooks/{endpoint_id}"
BY_OPERATOR: Final = "it was switched off by hand"


class NewWebhook(Struct, forbid_unknown_fields=True):
    url: str
    types: list[str] = []
    topics: list[str] = []
    batch_size: int = 1


class WebhookChange(Struct, forbid_unknown_fields=True):
    """What is absent stays as it is."""

    url: str | UnsetType = UNSET
    types: list[str] | UnsetType = UNSET
    topics: list[str] | UnsetType = UNSET
    batch_size: int | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET
    rotate_secret: bool = False


class Webhook(Struct, kw_only=True):
    """An endpoint, and how it fares."""

    endpoint_id: str
    url: str
    types: list[str]
    topics: list[str]
    batch_size: int
    enabled: bool
    off_reason: str
    off_at: str | None
    from_settings: bool
    created_at: str
    delivered: int
    given_up: int
    waiting: int
    """Counted up to 1,000."""
    failing_since: str | None
    last_failure: str
    secret: str | None = None
    """Only in the answer to the call that made it."""


class WebhookList(Struct):
    webhooks: list[Webhook]


class Removed(Struct):
    status: str
    endpoint_id: str


def routes(allowed: Sequence[Network]) -> Sequence[Route]:
    """What is served; `allowed` is WEBHOOK_ALLOW_PRIVATE."""
    return (
        Route(
            method="GET",
            path=ALL,
            summary="Webhook endpoints",
            scope=Scope.ADMIN,
            answer=WebhookList,
            handler=listed,
        ),
        Route(
            method="POST",
            path=ALL,
            summary="Make a webhook endpoint",
            scope=Scope.ADMIN,
            body=NewWebhook,
            answer=Webhook,
            handler=partial(made, allowed),
            statuses=(409,),
        ),
        Route(
            method="GET",
            path=ONE,
            summary="One webhook endpoint",
            scope=Scope.ADMIN,
            answer=Webhook,
            handler=shown,
        ),
        Route(
            method="PATCH",
            path=ONE,
            summary="Change a webhook endpoint, switch it on or off, or make it a new secret",
            scope=Scope.ADMIN,
            body=WebhookChange,
            answer=Webhook,
            handler=partial(changed, allowed),
            statuses=(409,),
        ),
        Route(
            method="DELETE",
            path=ONE,
            summary="Remove a webhook endpoint",
            scope=Scope.ADMIN,
            answer=Removed,
            handler=removed,
            statuses=(409,),
        ),
    )


def listed(call: Call, shelf: Shelf) -> WebhookList:
    return WebhookList([described(endpoint, shelf) for endpoint in Endpoints(shelf).all()])


def shown(call: Call, shelf: Shelf) -> Webhook:
    return described(Endpoints(shelf).get(call.path["endpoint_id"]), shelf)


def made(allowed: Sequence[Network], call: Call, shelf: Shelf) -> Webhook:
    body: NewWebhook = call.body
    choice = Choice(
        url=body.url,
        types=tuple(body.types),
        topics=tuple(body.topics),
        batch_size=body.batch_size,
    )
    endpoint = Endpoint.made(choice.checked(allowed), now_ms=call.now_ms)
    Endpoints(shelf).put(endpoint)
    return with_secret(endpoint, shelf)


def changed(allowed: Sequence[Network], call: Call, shelf: Shelf) -> Webhook:
    body: WebhookChange = call.body
    endpoints = Endpoints(shelf)
    endpoint = endpoints.get(call.path["endpoint_id"])
    choice = _changed(endpoint.choice, body)
    if choice != endpoint.choice:
        _require_ours(endpoint)
        endpoint = msgspec.structs.replace(endpoint, choice=choice.checked(allowed))
    if body.enabled is True:
        endpoint = endpoint.switched_on()
    elif body.enabled is False:
        endpoint = endpoint.switched_off(BY_OPERATOR, call.now_ms, told=True)
    if body.rotate_secret:
        endpoint = endpoint.rotated(call.now_ms)
    endpoints.put(endpoint)
    return with_secret(endpoint, shelf) if body.rotate_secret else described(endpoint, shelf)


def removed(call: Call, shelf: Shelf) -> Removed:
    endpoints = Endpoints(shelf)
    endpoint = endpoints.get(call.path["endpoint_id"])
    _require_ours(endpoint)
    endpoints.remove(endpoint.endpoint_id)
    return Removed("ok", endpoint.endpoint_id)


def described(endpoint: Endpoint, shelf: Shelf) -> Webhook:
    """An endpoint as people see it: without its secrets."""
    return Webhook(
        endpoint_id=endpoint.endpoint_id,
        url=endpoint.choice.url,
        types=list(endpoint.choice.types),
        topics=list(endpoint.choice.topics),
        batch_size=endpoint.choice.batch_size,
        enabled=endpoint.enabled,
        off_reason=endpoint.off_reason,
        off_at=_written_or_none(endpoint.off_at_ms),
        from_settings=endpoint.from_settings,
        created_at=written(endpoint.created_at_ms),
        delivered=endpoint.delivered,
        given_up=endpoint.given_up,
        waiting=waiting(shelf, endpoint.endpoint_id),
        failing_since=_written_or_none(endpoint.health.failing_since_ms),
        last_failure=endpoint.health.last_failure,
    )


def with_secret(endpoint: Endpoint, shelf: Shelf) -> Webhook:
    """The one time its newest secret is shown."""
    return msgspec.structs.replace(described(endpoint, shelf), secret=endpoint.secrets[0].key)


def _changed(choice: Choice, body: WebhookChange) -> Choice:
    return Choice(
        url=choice.url if body.url is UNSET else body.url,
        types=choice.types if body.types is UNSET else tuple(body.types),
        topics=choice.topics if body.topics is UNSET else tuple(body.topics),
        batch_size=choice.batch_size if body.batch_size is UNSET else body.batch_size,
    )


def _require_ours(endpoint: Endpoint) -> None:
    if endpoint.from_settings:
        raise Conflict("it stands in WEBHOOK_ENDPOINTS: change it there and start mailer anew")


def _written_or_none(at_ms: int | None) -> str | None:
    return None if at_ms is None else written(at_ms)
