"""What `mailer doctor` looks at over the network: our API from here, and its public address."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import urlsplit

from mailer.commands.checks import FAILURE, OK, WARNING
from mailer.hookspecs import Check
from mailer.settings import Settings

TIMEOUT_S: Final = 10.0
RENEW_DAYS: Final = 14
"""Let's Encrypt's clients renew 30 days before the end: at 14 something is amiss."""
ANYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - what BIND may say


def api(settings: Settings) -> Iterator[Check]:
    """Does it answer, and from its database?"""
    host, port = settings.listen
    connection = http.client.HTTPConnection(ANYWHERE.get(host, host), port, timeout=TIMEOUT_S)
    where = f"{host} port {port}"
    try:
        status, _ = _get(connection, "/ready")
    except (OSError, http.client.HTTPException) as error:
        advice = "start `mailer serve`; its log says why it does not start"
        yield Check("API", FAILURE, f"{where} does not answer: {_words(error)}", advice)
        return
    if status == 200:
        yield Check("API", OK, f"{where} answers")
    else:
        advice = "the database can't be read: see the lines about it and the API's log"
        yield Check("API", FAILURE, f"{where} answers {status} to /ready", advice)


def public_url(settings: Settings, now_s: float) -> Iterator[Check]:
    """Is mailer what stands at SERVER_URL, and for how long is its certificate valid?"""
    if settings.server_url is None:
        if settings.ways.names != {"maildir"}:
            finding = f"not set: links in mails begin with {settings.public_url}"
            advice = "set it to the address at which recipients and the provider reach the API"
            yield Check("SERVER_URL", WARNING, finding, advice)
        return
    parts = urlsplit(settings.server_url)
    secure = parts.scheme == "https"
    kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=TIMEOUT_S)
    try:
        connection.connect()
        sock = connection.sock
        certificate = sock.getpeercert() if isinstance(sock, ssl.SSLSocket) else None
        status, body = _get(connection, parts.path.rstrip("/") + "/health")
    except ssl.SSLCertVerificationError as error:
        finding = f"its certificate is not valid: {error.verify_message}"
        advice = "renew it, with the whole chain; providers and mail readers refuse it as it is"
        yield Check("SERVER_URL", FAILURE, finding, advice)
    except (OSError, http.client.HTTPException) as error:
        finding = f"{settings.server_url} can't be reached from here: {_words(error)}"
        advice = (
            "check DNS, proxy and firewall; a network may bar its own public address: then look"
            " from outside"
        )
        yield Check("SERVER_URL", FAILURE, finding, advice)
    else:
        yield _answer(settings.server_url, status, body, secure=secure)
        if certificate:
            yield _days_left(certificate, now_s)


def _get(connection: http.client.HTTPConnection, path: str) -> tuple[int, bytes]:
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read(1_000)
    finally:
        connection.close()


def _words(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _answer(url: str, status: int, body: bytes, *, secure: bool) -> Check:
    try:
        ours = status == 200 and json.loads(body).get("status") == "ok"
    except (ValueError, AttributeError):
        ours = False
    if not ours:
        finding = f"{url}/health answers {status}, not as mailer does"
        return Check("SERVER_URL", FAILURE, finding, "let the proxy pass this path to the API")
    if not secure:
        advice = "put a TLS proxy before the API; SNS and webhooks want https"
        return Check("SERVER_URL", WARNING, f"{url} reaches mailer, without TLS", advice)
    return Check("SERVER_URL", OK, f"{url} reaches mailer")


def _days_left(certificate: dict[str, Any], now_s: float) -> Check:
    days = int((ssl.cert_time_to_seconds(certificate["notAfter"]) - now_s) // 86_400)
    finding = f"valid for {days} days more"
    if days < RENEW_DAYS:
        return Check("certificate", WARNING, finding, "see why it was not renewed")
    return Check("certificate", OK, finding)
