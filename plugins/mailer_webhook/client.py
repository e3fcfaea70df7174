"""One POST to an endpoint, from which no receiver can take more than it is given.

The address connected to is the very one that was checked: a name is resolved once for each
request, and its addresses are judged by `addresses` before one of them is connected to. Redirects
are answers like others; the whole request ends within `TIMEOUT_S`, whatever the receiver does, and
no more is read of its answer than `MAX_ANSWER_BYTES`.
"""

from __future__ import annotations

import http.client
import io
import socket
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from typing import Any, Final

import certifi

from mailer_webhook.addresses import Network, Target, checked_url, may_connect, refusal

TIMEOUT_S: Final = 15.0
CONNECT_TIMEOUT_S: Final = 5.0
"""For each of a name's addresses."""
MAX_ANSWER_BYTES: Final = 4 * 1024
_MAX_HEAD_BYTES: Final = 16 * 1024
_SHOWN_CHARS: Final = 200
_ADDRESSES_TRIED: Final = 3
_HEADERS: Final = {
    "Content-Type": "application/json",
    "User-Agent": "mailer",
    "Connection": "close",
}

Resolve = Callable[[str, int], Sequence[tuple[Any, ...]]]
"""Host and port → what `socket.getaddrinfo` gives."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one request."""

    status: int | None
    """None: no answer came."""
    detail: str
    """The receiver's words, or why there are none; for the operator."""
    retry_after_s: float | None = None

    @property
    def good(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


class Refused(OSError):
    """None of a name's addresses may be connected to."""


def resolve(host: str, port: int) -> Sequence[tuple[Any, ...]]:
    """Ask the system's resolver."""
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)


class Client:
    """Posts to endpoints; usable by several threads."""

    def __init__(
        self,
        allowed: Sequence[Network],
        *,
        tls: ssl.SSLContext | None = None,
        resolve: Resolve = resolve,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        """Allow the ranges of WEBHOOK_ALLOW_PRIVATE besides public addresses.

        Without `tls`, receivers need a certificate that this machine trusts or a public root does.
        """
        self._allowed = allowed
        self._resolve = resolve
        self._timeout_s = timeout_s
        self._tls = tls or _trusting()

    def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Send a body of JSON; whatever goes wrong is an answer."""
        deadline = time.monotonic() + self._timeout_s
        try:
            target = checked_url(url, self._allowed)
            with closing(self._secured(target, deadline)) as sock:
                connection = self._connection(target)
                connection.sock = _Bounded(sock, deadline)
                connection.request("POST", target.path, body, {**_HEADERS, **headers})
                return _answer(connection.getresponse())
        except TimeoutError:
            return Answer(None, f"no answer within {self._timeout_s:g} s")
        except http.client.RemoteDisconnected:
            return Answer(None, "the connection was closed without an answer")
        except http.client.HTTPException as error:
            return Answer(None, f"the answer is not HTTP: {type(error).__name__}")
        except (OSError, ValueError) as error:  # resolving, connecting, TLS, an unfit URL
            return Answer(None, _printable(getattr(error, "strerror", None) or str(error)))

    def _connection(self, target: Target) -> Any:
        """What speaks HTTP; it gets its socket from outside, and must never make one itself."""
        connection: http.client.HTTPConnection
        if target.tls:
            connection = http.client.HTTPSConnection(target.host, target.port, context=self._tls)
        else:
            connection = http.client.HTTPConnection(target.host, target.port)
        connection.auto_open = 0
        return connection

    def _secured(self, target: Target, deadline: float) -> socket.socket:
        sock = self._connect(target, deadline)
        if not target.tls:
            return sock
        try:
            sock.settimeout(_left(deadline))
            return self._tls.wrap_socket(sock, server_hostname=target.host)
        except BaseException:
            sock.close()
            raise

    def _connect(self, target: Target, deadline: float) -> socket.socket:
        """Connect to an address that may be connected to; the first error when none answers."""
        found = self._resolve(target.host, target.port)
        judged = [(entry, ip_address(entry[4][0])) for entry in found]
        fit = [
            entry
            for entry, address in judged
            if may_connect(address, self._allowed, tls=target.tls)
        ]
        if not fit:
            raise Refused(
                refusal(judged[0][1], tls=target.tls) if judged else "its host has no address"
            )
        failures = []
        for family, kind, protocol, _, where in fit[:_ADDRESSES_TRIED]:
            sock = socket.socket(family, kind, protocol)
            try:
                sock.settimeout(min(_left(deadline), CONNECT_TIMEOUT_S))
                sock.connect(where)
            except OSError as error:
                sock.close()
                failures.append(error)
            else:
                return sock
        raise failures[0]


def _trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context


class _Bounded:
    """A connected socket as http.client uses it, for one request: in time, and not too much."""

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._sock = sock
        self._deadline = deadline

    def sendall(self, data: Any) -> None:
        self._sock.settimeout(_left(self._deadline))
        self._sock.sendall(data)

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Incoming(self._sock, self._deadline))

    def close(self) -> None:
        """http.client closes before it reads the answer; the socket is closed by its owner."""


class _Incoming(io.RawIOBase):
    """What a receiver sends, until it is too much or too late."""

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._sock = sock
        self._deadline = deadline
        self._room = _MAX_HEAD_BYTES + MAX_ANSWER_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)[: self._room]
        if not len(view):
            raise http.client.LineTooLong("answer")
        self._sock.settimeout(_left(self._deadline))
        count = self._sock.recv_into(view)
        self._room -= count
        return count


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _answer(response: http.client.HTTPResponse) -> Answer:
    """Status first: what it is worth does not hang on a body that comes late or never."""
    try:
        words = response.read(MAX_ANSWER_BYTES).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException):
        words = ""
    said = _printable(f"{response.reason} {words}")[:_SHOWN_CHARS]
    retry_after = response.getheader("Retry-After")
    return Answer(
        response.status,
        f"{response.status} {said}".strip(),
        retry_after_s(retry_after, datetime.now(UTC)) if retry_after else None,
    )


def retry_after_s(value: str, now: datetime) -> float | None:
    """The wait that a Retry-After header asks for (RFC 9110, 10.2.3); None if it makes no sense."""
    value = value.strip()
    if value.isdecimal() and value.isascii():
        return float(value[:9])
    try:
        then = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (then.replace(tzinfo=then.tzinfo or UTC) - now).total_seconds())


def _printable(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
