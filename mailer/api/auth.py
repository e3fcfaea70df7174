"""Who may call what: Bearer tokens (HS256), an API key, or nothing but this machine itself.

Tokens are JWTs signed with JWT_SECRET, with `sub` and `exp`; their `scope` (RFC 8693: words parted
by spaces; a list is taken too) limits what they may do. With neither secret nor key set, only
requests that begin on this machine are served, unless ALLOW_UNAUTHENTICATED says otherwise.
"""

from __future__ import annotations

import hmac
import math
from collections.abc import Mapping
from functools import lru_cache
from http import HTTPStatus
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import urlsplit

import falcon.asgi
import jwt

from mailer.api.bodies import ApiRequest
from mailer.api.callers import CallerRate
from mailer.api.operations import Operation
from mailer.api.problems import Refused
from mailer.clock import Clock
from mailer.endpoints import Scope
from mailer.settings import Settings

LEEWAY_S: Final = 30
MAX_SUBJECT_CHARS: Final = 255

_FORWARDING: Final = frozenset(
    {b"forwarded", b"x-forwarded-for", b"x-real-ip", b"x-forwarded-host", b"via"}
)


class Auth:
    """Falcon middleware: no operation that needs a scope runs before it is shown."""

    def __init__(
        self, settings: Settings, operations: Mapping[tuple[str, str], Operation], clock: Clock
    ) -> None:
        self._settings = settings
        self._operations = operations
        self._clock = clock
        self._rate = CallerRate(settings.caller_rate)

    async def process_resource(
        self, req: ApiRequest, resp: falcon.asgi.Response, resource: object, params: Any
    ) -> None:
        operation = self._operations.get((req.uri_template or "", req.method))
        if operation is not None and operation.scope is not None:
            req.subject = self._subject(req, operation.scope)
            wait_s = self._rate.wait_s(req.subject, self._clock.mono_us())
            if wait_s:
                raise Refused(
                    HTTPStatus.TOO_MANY_REQUESTS,
                    f"more than {self._settings.caller_rate:g} requests a second of one caller",
                    {"Retry-After": str(math.ceil(wait_s))},
                )

    def _subject(self, req: ApiRequest, scope: Scope) -> str:
        settings = self._settings
        key = req.get_header("X-API-KEY")
        if settings.api_key and key is not None:
            if hmac.compare_digest(_bytes(key), settings.api_key.encode()):
                return "api-key"
            raise _unauthorized("the X-API-KEY is not the right one")
        if settings.jwt_secret:
            now_s = req.began_us // 1_000_000
            return token_subject(req.auth or "", settings.jwt_secret, scope, now_s)
        if settings.api_key:
            raise _unauthorized("send the header X-API-KEY")
        if not settings.allow_unauthenticated:
            _require_local(req)
        return ""


def token_subject(authorization: str, secret: str, scope: Scope, now_s: int) -> str:
    """Whom a Bearer token speaks for. Raises Refused: 401, or 403 without the scope.

    A token is verified once within a second `now_s`, however often it is shown.
    """
    kind, _, token = authorization.partition(" ")
    if kind.lower() != "bearer" or not token.strip():
        raise _unauthorized("send Authorization: Bearer with a token; `mailer token` makes one")
    try:
        subject, granted = _verified(token.strip(), secret, now_s)
    except jwt.ExpiredSignatureError:
        raise _unauthorized("the token has expired") from None
    except (jwt.PyJWTError, ValueError, OverflowError, TypeError, RecursionError):
        raise _unauthorized("the token is not valid here") from None
    if granted is not None and scope not in granted:
        raise Refused(
            HTTPStatus.FORBIDDEN,
            f"this needs a token with the scope {scope}",
            {"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{scope}"'},
        )
    return f"sub {subject}"


@lru_cache(maxsize=1024)
def _verified(token: str, secret: str, now_s: int) -> tuple[str, list[str] | None]:
    """Subject and scopes of a good token."""
    decoded = jwt.decode_complete(
        token,
        secret,
        algorithms=["HS256"],
        leeway=LEEWAY_S,
        options={"require": ["exp", "sub"]},
    )
    return _claims(decoded)


def _claims(decoded: dict[str, Any]) -> tuple[str, list[str] | None]:
    """Subject and scopes (None: all). Raises ValueError for claims of the wrong form."""
    header, payload = decoded["header"], decoded["payload"]
    if "crit" in header:
        raise ValueError("extensions that must be understood are not")
    subject, expires = payload["sub"], payload["exp"]
    if isinstance(expires, bool) or not isinstance(expires, (int, float)):
        raise TypeError("exp is a number")
    if not isinstance(subject, str) or not 0 < len(subject) <= MAX_SUBJECT_CHARS:
        raise ValueError("sub is a text")
    subject.encode()  # a lone surrogate raises
    scopes = payload.get("scope")
    if scopes is None and "scope" not in payload:
        return subject, None
    if isinstance(scopes, str):
        return subject, scopes.split()
    if isinstance(scopes, list):
        return subject, [scope for scope in scopes if isinstance(scope, str)]
    raise ValueError("scope is a text or a list")


def _require_local(req: ApiRequest) -> None:
    """Raises Refused unless the request was made on this machine, by no web page's trick."""
    how = "set JWT_SECRET or API_KEY, or ALLOW_UNAUTHENTICATED=1 to serve everybody"
    client = next(iter(req.scope.get("client") or ()), "")
    if not _is_loopback(client):
        raise Refused(
            HTTPStatus.FORBIDDEN, f"without authentication only this machine is served; {how}"
        )
    through = next((name for name, _ in req.scope["headers"] if name in _FORWARDING), None)
    if through is not None:
        text = (
            f"the header {through.decode()} tells of a proxy, so this did not begin on this machine"
        )
        raise Refused(HTTPStatus.FORBIDDEN, f"{text}; {how}")
    # A page in a browser on this machine may reach us under a name of its own (DNS rebinding),
    # or post to us from elsewhere; neither is the machine's own doing.
    host = req.get_header("Host", default="")
    origin = req.get_header("Origin")
    foreign = origin is not None and urlsplit(origin).netloc != host
    if foreign or not _names_this_machine(host):
        text = "call it as localhost or 127.0.0.1, and not from another site's page"
        raise Refused(HTTPStatus.FORBIDDEN, f"{text}; {how}")


@lru_cache(maxsize=1024)
def _names_this_machine(host: str) -> bool:
    """Whether a Host header does."""
    name = urlsplit(f"//{host}").hostname or ""
    return name == "localhost" or _is_loopback(name)


@lru_cache(maxsize=1024)
def _is_loopback(host: str) -> bool:
    try:
        address = ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def _unauthorized(detail: str) -> Refused:
    return Refused(HTTPStatus.UNAUTHORIZED, detail, {"WWW-Authenticate": "Bearer"})


def _bytes(header: str) -> bytes:
    """A header as it came: ASGI headers are latin-1, and comparing texts would choke on ü."""
    return header.encode("latin-1", "replace")
