"""The API as one ASGI application, put together by hand from what it needs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import unquote_to_bytes

import falcon.asgi

from mailer.api import problems
from mailer.api.auth import Auth
from mailer.api.backend import Backend
from mailer.api.bodies import ApiRequest, too_large
from mailer.api.observe import Observe
from mailer.api.operations import Operation
from mailer.api.problems import Refused
from mailer.api.routes import routes

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
STOPPING: Final = "mailer.stopping"
AsgiApp = Callable[[dict[str, Any], Receive, Send], Awaitable[None]]


def create_app(backend: Backend) -> AsgiApp:
    """The application; its lifespan opens and closes the backend."""
    table = routes(backend)
    operations: dict[tuple[str, str], Operation] = {}
    for route in table:
        for method, operation in route.operations.items():
            operations[route.template, method] = operation
            if method == "GET":
                operations[route.template, "HEAD"] = operation
    middleware: list[Any] = [
        Observe(backend.clock, backend.measured.refused),
        Auth(backend.settings, operations, backend.clock),
        _Life(backend),
    ]
    app = falcon.asgi.App(request_type=ApiRequest, middleware=middleware)
    problems.install(app)
    for route in table:
        if "GET" in route.operations:
            setattr(route.resource, "on_head", getattr(route.resource, "on_get"))  # noqa: B009, B010
        app.add_route(route.template, route.resource)
    return _gate(app, backend.settings.max_body_bytes)


class _Life:
    """Falcon middleware: opens the database when the worker starts, never before it is forked."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def process_startup(self, scope: dict[str, Any], event: dict[str, Any]) -> None:
        await self._backend.open()
        if "state" in scope:  # what the server's connections see
            scope["state"][STOPPING] = self._backend.stopping

    async def process_shutdown(self, scope: dict[str, Any], event: dict[str, Any]) -> None:
        await self._backend.close()


def _gate(app: falcon.asgi.App[Any, Any], max_body_bytes: int) -> AsgiApp:
    """Turn away what Falcon would begin to read, or would read wrongly."""

    async def gate(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        refused = _turned_away(scope, max_body_bytes) if scope["type"] == "http" else None
        if refused is None:
            await app(scope, receive, send)
            return
        data = problems.body(refused.status, refused.detail)
        headers = [
            (b"content-type", problems.MEDIA_TYPE.encode()),
            (b"content-length", str(len(data)).encode()),
        ]
        await send({"type": "http.response.start", "status": refused.status, "headers": headers})
        await send({"type": "http.response.body", "body": data})

    return gate


def _turned_away(scope: dict[str, Any], max_body_bytes: int) -> Refused | None:
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit() and int(value[:20]) > max_body_bytes:
            return too_large(max_body_bytes)
    raw_path = scope.get("raw_path") or b""
    if b"%" in raw_path:
        try:
            unquote_to_bytes(raw_path).decode()
        except UnicodeDecodeError:
            # Decoded leniently, different ids would become one.
            return Refused(HTTPStatus.BAD_REQUEST, "the path is not UTF-8 when percent-decoded")
    return None
