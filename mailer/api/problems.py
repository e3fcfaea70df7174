"""Errors as RFC 9457 `application/problem+json`, every fault of a request named.

Nothing a client sends is answered by a 5xx of ours; what is unexpected is reported with its
traceback and answered without detail.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final

import falcon
import falcon.asgi
import msgspec

from mailer import reporting
from mailer.errors import Conflict, Fault, InvalidRequest, NotFound, QueueFull, StoreError

MEDIA_TYPE: Final = "application/problem+json"
MAX_FAULTS: Final = 100
RETRY_AFTER_S: Final = 5

log = logging.getLogger(__name__)


class FaultAnswer(msgspec.Struct, frozen=True):
    """One fault: where it is, a stable code, a sentence."""

    path: str
    code: str
    message: str


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """What went wrong, for programs and people (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str = ""
    errors: Sequence[FaultAnswer] = ()


class Refused(Exception):
    """Ends a request with a status, a sentence, and headers if need be."""

    def __init__(
        self, status: HTTPStatus, detail: str, headers: dict[str, str] | None = None
    ) -> None:
        self.status = status
        self.detail = detail
        self.headers = headers or {}
        super().__init__(detail)


def body(status: HTTPStatus, detail: str, faults: Sequence[Fault] = ()) -> bytes:
    """The JSON of a problem."""
    errors = [FaultAnswer(f.path, f.code, f.message) for f in faults[:MAX_FAULTS]]
    return msgspec.json.encode(
        Problem("about:blank", status.phrase, int(status), detail, errors or ())
    )


def install(app: falcon.asgi.App[Any, Any]) -> None:
    """Let every error of the app be answered as a problem."""
    app.add_error_handler(Exception, _unexpected)
    app.add_error_handler(falcon.HTTPError, _http_error)
    app.add_error_handler(Refused, _refused)
    app.add_error_handler(InvalidRequest, _invalid)
    app.add_error_handler(NotFound, _not_found)
    app.add_error_handler(Conflict, _conflict)
    app.add_error_handler(QueueFull, _queue_full)
    app.add_error_handler(StoreError, _store_error)


_Request = falcon.asgi.Request
_Response = falcon.asgi.Response


def _answer(
    resp: _Response,
    status: HTTPStatus,
    detail: str,
    faults: Sequence[Fault] = (),
    headers: dict[str, str] | None = None,
) -> None:
    resp.status = status.value
    resp.content_type = MEDIA_TYPE
    resp.data = body(status, detail, faults)
    resp.set_headers(headers or {})


async def _refused(req: _Request, resp: _Response, error: Refused, params: Any) -> None:
    _answer(resp, error.status, error.detail, headers=error.headers)


async def _invalid(req: _Request, resp: _Response, error: InvalidRequest, params: Any) -> None:
    detail = "1 fault" if len(error.faults) == 1 else f"{len(error.faults)} faults"
    _answer(resp, HTTPStatus.UNPROCESSABLE_ENTITY, f"{detail}; see errors", error.faults)


async def _not_found(req: _Request, resp: _Response, error: NotFound, params: Any) -> None:
    _answer(resp, HTTPStatus.NOT_FOUND, str(error))


async def _conflict(req: _Request, resp: _Response, error: Conflict, params: Any) -> None:
    _answer(resp, HTTPStatus.CONFLICT, str(error))


async def _queue_full(req: _Request, resp: _Response, error: QueueFull, params: Any) -> None:
    headers = {"Retry-After": "60"}
    _answer(resp, HTTPStatus.TOO_MANY_REQUESTS, str(error), headers=headers)


async def _store_error(req: _Request, resp: _Response, error: StoreError, params: Any) -> None:
    """The sentence names a file, so it is for the log, not for the client."""
    log.warning("the store can't serve: %s", error)
    headers = {"Retry-After": str(RETRY_AFTER_S)}
    detail = "the database can't be used now; nothing of this request was stored"
    _answer(resp, HTTPStatus.SERVICE_UNAVAILABLE, detail, headers=headers)


async def _http_error(req: _Request, resp: _Response, error: falcon.HTTPError, params: Any) -> None:
    status = HTTPStatus(error.status_code)
    headers = dict(error.headers or {})
    if status is HTTPStatus.METHOD_NOT_ALLOWED:
        detail = f"allowed here: {headers.get('Allow', 'nothing')}"
    elif status is HTTPStatus.NOT_FOUND:
        detail = "there is nothing at this path; /openapi.json lists what there is"
    else:
        detail = error.description or error.title or ""
    _answer(resp, status, detail, headers=headers)


async def _unexpected(req: _Request, resp: _Response, error: Exception, params: Any) -> None:
    reporting.unexpected(error, f"{req.method} {req.uri_template or 'no route'}")
    _answer(resp, HTTPStatus.INTERNAL_SERVER_ERROR, "an error of ours; it has been reported")
