"""Reading request bodies: never more than is allowed, never more at once than memory can bear.

A body over the limit is refused from its declared length, or as soon as the chunks read so far
exceed it. A body whose sender went away half-way is never taken for a whole one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from http import HTTPStatus
from typing import Any, Final

import falcon.asgi

from mailer.api.problems import RETRY_AFTER_S, Refused

HELD_BODIES: Final = 2
"""So many bodies of the largest size may be in memory at once; more are told to come again."""


class ApiRequest(falcon.asgi.Request):
    """A request that remembers how to receive, so that its body can be read to the very end."""

    __slots__ = (
        "_first",
        "_receive_next",
        "began_us",
        "http_request_id",
        "log_fields",
        "subject",
    )

    def __init__(
        self,
        scope: dict[str, Any],
        receive: Callable[[], Awaitable[Any]],
        first_event: Any = None,
        options: Any = None,
    ) -> None:
        super().__init__(scope, receive, first_event=first_event, options=options)
        self._first = first_event
        self._receive_next = receive
        self.began_us = 0
        self.subject = ""
        """Who authenticated; keeps one caller's idempotency keys from another's."""
        self.http_request_id = ""
        """The caller's X-Request-ID, or one of our own."""
        self.log_fields: dict[str, object] = {}
        """What the request's line in the log tells besides."""

    async def body_events(self) -> AsyncIterator[bytes]:
        """The chunks of the body. Raises Refused when the sender went away before its end."""
        event = self._first or await self._receive_next()
        while True:
            if event["type"] != "http.request":
                raise Refused(HTTPStatus.BAD_REQUEST, "the connection closed within the body")
            yield event.get("body", b"")
            if not event.get("more_body"):
                return
            event = await self._receive_next()


class Bodies:
    """Reads the bodies of one process."""

    def __init__(self, max_body_bytes: int) -> None:
        self._max_body_bytes = max_body_bytes
        self._held_bytes = 0

    def json(self, req: ApiRequest) -> AbstractAsyncContextManager[bytes]:
        """The raw bytes of what is declared to be JSON, counted as held while in use.

        Raises Refused: 413, 415, or 503 when too much is held already.
        """
        _check_type(req)
        return self.raw(req, self._max_body_bytes)

    @asynccontextmanager
    async def raw(self, req: ApiRequest, max_bytes: int) -> AsyncIterator[bytes]:
        """The bytes, whatever they are. Raises Refused: 413, 415, 503."""
        _check_encoding(req)
        chunks: list[bytes] = []
        size = 0
        try:
            async for chunk in req.body_events():
                size += len(chunk)
                self._held_bytes += len(chunk)
                if size > max_bytes:
                    raise too_large(max_bytes)
                if self._held_bytes > HELD_BODIES * self._max_body_bytes:
                    headers = {"Retry-After": str(RETRY_AFTER_S)}
                    text = "too many large requests at once"
                    raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, text, headers)
                chunks.append(chunk)
            yield b"".join(chunks) if len(chunks) != 1 else chunks[0]
        finally:
            self._held_bytes -= size


def too_large(max_bytes: int) -> Refused:
    return Refused(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a body has at most {max_bytes} bytes here"
    )


def _check_encoding(req: ApiRequest) -> None:
    encoding = req.get_header("Content-Encoding", default="identity")
    if encoding.strip().lower() not in {"identity", ""}:
        text = f"bodies are taken as they are, not with Content-Encoding: {encoding[:40]}"
        raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, text)


def _check_type(req: ApiRequest) -> None:
    kind, parameters = falcon.parse_header(req.content_type or "")
    charset = parameters.pop("charset", "utf-8").lower()
    if kind.lower() != "application/json" or charset not in {"utf-8", "utf8"} or parameters:
        text = "the body must be JSON: Content-Type: application/json, in UTF-8"
        raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, text)
