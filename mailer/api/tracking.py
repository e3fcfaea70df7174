"""What strangers send back out of mails: opens, clicks, unsubscribes. Only signed tokens count.

Opens and clicks are recorded without making anybody wait; an unsubscribe is on disk before it is
answered. A token of ours for a mail that is gone is answered like any other.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from http import HTTPStatus
from importlib.resources import files
from typing import Final
from urllib.parse import quote

import falcon.asgi

from mailer import tokens
from mailer.api.backend import Backend
from mailer.api.bodies import ApiRequest
from mailer.api.problems import Refused
from mailer.api.query import Query
from mailer.errors import InvalidRequest, StoreUnavailable
from mailer.hookspecs import ProviderEvent
from mailer.store import Store
from mailer.vocabulary import EventType, SuppressionReason

log = logging.getLogger(__name__)

PIXEL: Final = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010804000000b51c0c02"
    "0000000b4944415478da6364600000000600023081d02f0000000049454e44ae426082"
)
"""A transparent PNG of one pixel."""
MAX_FORM_BYTES: Final = 16 * 1024

_PAGE_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; form-action 'self'; base-uri 'none';"
    " frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}

_PROGRAMS: Final = re.compile(
    r"bot\b|crawl|spider|scan|preview|prefetch|headless|curl|wget|python|java/|go-http-client|okhttp"
    r"|libwww|barracuda|proofpoint|mimecast|symantec|trendmicro|fortinet|safelinks",
    re.IGNORECASE,
)


def looks_automated(method: str, headers: Mapping[str, str]) -> bool:
    """Whether a machine, not a person, fetched a link or pixel; header names in lower case.

    Apple's Mail Privacy Protection names itself `Mozilla/5.0` and no more. Gmail's image proxy
    fetches when a person opens, so it is not taken for a machine.
    """
    agent = headers.get("user-agent", "").strip()
    purpose = headers.get("sec-purpose", "") + headers.get("purpose", "") + headers.get("x-moz", "")
    return (
        method == "HEAD"
        or agent in {"", "Mozilla/5.0"}
        or "prefetch" in purpose.lower()
        or _PROGRAMS.search(agent) is not None
    )


class Open:
    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def on_get(self, req: ApiRequest, resp: falcon.asgi.Response) -> None:
        """Answers the pixel, whatever it was asked with."""
        token = _token(req, "request_id")
        request_id = tokens.verify(self._backend.signing_key, tokens.OPEN, token)
        if request_id is not None:
            _post(self._backend, req, EventType.OPEN, request_id)
        resp.content_type = "image/png"
        resp.set_headers({"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"})
        resp.data = PIXEL


class Click:
    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def on_get(self, req: ApiRequest, resp: falcon.asgi.Response) -> None:
        """Redirects to the URL that was signed, and nowhere else."""
        found = tokens.verify_click(self._backend.signing_key, _token(req, "token"))
        if found is None or not re.match(r"https?://", found[1], re.IGNORECASE):
            raise Refused(HTTPStatus.BAD_REQUEST, "this is not a link of ours, or it was damaged")
        request_id, url = found
        _post(self._backend, req, EventType.CLICK, request_id, url)
        resp.status = HTTPStatus.FOUND.value
        # Only what no header can carry is encoded; the rest stays as it was signed.
        resp.set_header("Location", quote(url, safe="%/:?#[]@!$&'()*+,;=~<>\"\\^`{|}"))
        resp.set_headers({"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"})


class Unsubscribe:
    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._ask = files("mailer.api").joinpath("unsubscribe.html").read_bytes()
        self._done = files("mailer.api").joinpath("unsubscribed.html").read_bytes()

    async def on_get(self, req: ApiRequest, resp: falcon.asgi.Response) -> None:
        """Only asks: scanners follow links, and must not unsubscribe anybody (RFC 8058)."""
        self._asked(req)
        _give_page(resp, self._ask)

    async def on_post(self, req: ApiRequest, resp: falcon.asgi.Response) -> None:
        """The page's form, or a mail program's one click (RFC 8058)."""
        request_id, email, scope = self._asked(req)
        async with self._backend.bodies.raw(req, MAX_FORM_BYTES):
            pass
        now_ms = self._backend.clock.wall_ms()
        event = ProviderEvent(
            EventType.UNSUBSCRIBE,
            now_ms,
            source="unsubscribe",
            source_event_id=request_id,
            request_id=request_id,
        )

        def unsubscribe(store: Store) -> None:
            _learn(store, event, now_ms)
            # Also when the mail is gone, or was unsubscribed from before and then allowed again.
            store.suppressions.add(
                email,
                scope=scope,
                reason=SuppressionReason.UNSUBSCRIBE,
                detail=f"by a link in mail {request_id}",
                now_ms=now_ms,
            )

        await self._backend.writer.run(unsubscribe)
        _give_page(resp, self._done)

    def _asked(self, req: ApiRequest) -> tuple[str, str, str]:
        """Mail, address and scope that a link was made for."""
        found = tokens.verify_unsubscribe(self._backend.signing_key, _token(req, "token"))
        if found is None:
            raise Refused(HTTPStatus.BAD_REQUEST, "this is not a link of ours, or it was damaged")
        return found


def _token(req: ApiRequest, name: str) -> str:
    """A query parameter, or what can't be a token: trackers add parameters of their own."""
    query = Query(req.query_string, (name,), strict=False)
    token = query.text(name)
    try:
        query.end()
    except InvalidRequest:
        return ""
    return token or ""


def _post(
    backend: Backend, req: ApiRequest, kind: EventType, request_id: str, detail: str = ""
) -> None:
    now_ms = backend.clock.wall_ms()
    event = ProviderEvent(
        kind,
        now_ms,
        source="tracking",
        source_event_id="",
        request_id=request_id,
        automated=looks_automated(req.method, req.headers_lower),
        detail=detail,
    )
    try:
        backend.writer.post(lambda store: _learn(store, event, now_ms))
    except StoreUnavailable as error:
        log.warning("a tracking event was not recorded: %s", error)


def _learn(store: Store, event: ProviderEvent, now_ms: int) -> None:
    """Record what is told of a mail that is still there."""
    if event.request_id is not None and store.mails.find_id(event.request_id) is not None:
        store.events.learn([event], now_ms=now_ms)


def _give_page(resp: falcon.asgi.Response, page: bytes) -> None:
    resp.content_type = "text/html; charset=utf-8"
    resp.set_headers(_PAGE_HEADERS)
    resp.data = page
