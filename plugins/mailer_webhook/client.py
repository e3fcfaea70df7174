"""Posting to an endpoint, so that no receiver takes more than it is given.

Redirects are answers like others. Each request ends within `TIMEOUT_S`, whatever the receiver does,
and no more is read of its answer than `MAX_ANSWER_BYTES`. Whatever goes wrong is an `Answer`.
"""

from __future__ import annotations

import http.client
import io
import socket
import ssl
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

from mailer_webhook.addresses import Target, checked_url
from mailer_webhook.connecting import Connector, left_s
from mailer_webhook.schedule import Answer

TIMEOUT_S: Final = 15.0
MAX_ANSWER_BYTES: Final = 4 * 1024
_MAX_HEAD_BYTES: Final = 16 * 1024
_SHOWN_CHARS: Final = 200
_HEADERS: Final = {"Content-Type": "application/json", "User-Agent": "mailer"}
_STALE: Final = (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError)
"""How a connection looks that the receiver closed after its last answer."""


class Session:
    """Posts to one URL, one after the other, over one connection as long as the receiver keeps it.

    Used by one thread; closed by whoever made it.
    """

    def __init__(self, connector: Connector, url: str, *, timeout_s: float = TIMEOUT_S) -> None:
        self._connector = connector
        self._url = url
        self._timeout_s = timeout_s
        self._connection: tuple[Target, socket.socket] | None = None

    def post(self, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Send JSON; the answer, or what came instead of one."""
        deadline = time.monotonic() + self._timeout_s
        try:
            if self._connection is not None:
                try:
                    return self._exchange(body, headers, deadline)
                except _STALE:
                    self.close()
            return self._exchange(body, headers, deadline)
        except TimeoutError:
            return self._failed(f"no answer within {self._timeout_s:g} s")
        except http.client.RemoteDisconnected:
            return self._failed("the connection was closed without an answer")
        except http.client.HTTPException as error:
            return self._failed(f"the answer is not HTTP: {type(error).__name__}")
        except (OSError, ValueError) as error:  # resolving, connecting, TLS, an unfit URL
            return self._failed(_printable(getattr(error, "strerror", None) or str(error)))
        except Exception as error:  # nothing that a receiver sends may end the deliverer
            return self._failed(f"mailer could not read the answer: {type(error).__name__}")

    def close(self) -> None:
        """Harmless when done twice."""
        if self._connection is not None:
            self._connection[1].close()
        self._connection = None

    def _failed(self, detail: str) -> Answer:
        self.close()
        return Answer(None, detail)

    def _exchange(self, body: bytes, headers: Mapping[str, str], deadline: float) -> Answer:
        if self._connection is None:
            target = checked_url(self._url, self._connector.allowed)
            self._connection = (target, self._connector.connect(target, deadline))
        target, sock = self._connection
        speaking = self._http(target)
        speaking.sock = _Bounded(sock, deadline)
        speaking.request("POST", target.path, body, {**_HEADERS, **headers})
        response = speaking.getresponse()
        answer = _answer(response)
        if response.will_close or not response.isclosed():
            self.close()
        return answer

    def _http(self, target: Target) -> Any:
        """What speaks HTTP; it is given its socket, and must never make one itself."""
        speaking: http.client.HTTPConnection
        if target.tls:
            speaking = http.client.HTTPSConnection(
                target.host, target.port, context=self._connector.tls
            )
        else:
            speaking = http.client.HTTPConnection(target.host, target.port)
        speaking.auto_open = 0
        return speaking


class _Bounded:
    """A connected socket as http.client uses it, for one request: in time, and not too much."""

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._sock = sock
        self._deadline = deadline

    def sendall(self, data: Any) -> None:
        self._sock.settimeout(left_s(self._deadline))
        self._sock.sendall(data)

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Incoming(self._sock, self._deadline))

    def close(self) -> None:
        """http.client closes before it reads the answer; the session closes the socket itself."""


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
        self._sock.settimeout(left_s(self._deadline))
        count = self._sock.recv_into(view)
        self._room -= count
        return count


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
