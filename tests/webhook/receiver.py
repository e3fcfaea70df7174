"""A webhook receiver on loopback: it writes down what comes, and answers as it is told to.

`ANSWERS` has one good way to answer, and the wrong ones that a sender has to live with.
"""

from __future__ import annotations

import re
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from email.parser import BytesParser
from typing import IO, Any

from standardwebhooks import Webhook

BIG_BYTES = 32_000_000
"""More than the buffers of the system hold."""

_EVENT_ID = re.compile('"data":{"id":"([^"]+)"')

Behaviour = Callable[["Receiver", socket.socket], None]


@dataclass(frozen=True)
class Delivery:
    """One request."""

    path: str
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes

    @property
    def webhook_id(self) -> str:
        return self.headers["webhook-id"]

    def verified(self, secret: str) -> Any:
        """The body, if the published library takes it for genuine; raises what it raises."""
        return Webhook(secret).verify(self.body, dict(self.headers))


def status(line: str, *headers: str, body: bytes = b"") -> Behaviour:
    """Answer with this status line, at once and in full."""
    lines = [f"HTTP/1.1 {line}", f"Content-Length: {len(body)}", *headers, "", ""]

    def answer(receiver: Receiver, sock: socket.socket) -> None:
        sock.sendall("\r\n".join(lines).encode() + body)

    return answer


def hang(receiver: Receiver, sock: socket.socket) -> None:
    receiver.ending.wait()
    close(receiver, sock)  # so that the sender's thread does not outlive the test


def drip(receiver: Receiver, sock: socket.socket) -> None:
    """A byte of the answer every 50 ms: no single one comes late."""
    for byte in b"HTTP/1.1 200 OK\r\nX-Padding: " + b"x" * BIG_BYTES:
        sock.sendall(bytes([byte]))
        if receiver.ending.wait(0.05):
            return


def close(receiver: Receiver, sock: socket.socket) -> None:
    sock.shutdown(socket.SHUT_RDWR)


def then_close(first: Behaviour) -> Behaviour:
    """Answer, and close the connection without having said so."""

    def behave(receiver: Receiver, sock: socket.socket) -> None:
        first(receiver, sock)
        close(receiver, sock)
        receiver.closed.set()

    return behave


def reset(receiver: Receiver, sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    raise ConnectionResetError


def babble(receiver: Receiver, sock: socket.socket) -> None:
    sock.sendall(b"220 mail.example.com ESMTP\r\n")
    close(receiver, sock)


def endless_headers(receiver: Receiver, sock: socket.socket) -> None:
    sock.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        sock.sendall(b"X: " + b"x" * 1000 + b"\r\n")


def endless_continue(receiver: Receiver, sock: socket.socket) -> None:
    while True:
        sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")


def endless_body(receiver: Receiver, sock: socket.socket) -> None:
    sock.sendall(b"HTTP/1.1 500 Sorry\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        sock.sendall(b"3e8\r\n" + b"x" * 1000 + b"\r\n")
        receiver.sent_bytes += 1000


def big(receiver: Receiver, sock: socket.socket) -> None:
    """A good answer, with much that nobody asked for."""
    sock.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {BIG_BYTES}\r\n\r\n".encode())
    for _ in range(BIG_BYTES // 10_000):
        sock.sendall(b"x" * 10_000)
        receiver.sent_bytes += 10_000


GOOD = status("204 No Content")

WRONG: dict[str, Behaviour] = {
    "500": status("500 Internal Server Error", body=b"Traceback"),
    "400": status("400 Bad Request"),
    "304": status("304 Not Modified"),
    "hang": hang,
    "drip": drip,
    "close": close,
    "reset": reset,
    "babble": babble,
    "endless headers": endless_headers,
    "endless continue": endless_continue,
    "endless body": endless_body,
    "status 99": status("99 Low"),
    "status 20000": status("20000 High"),
}


class Receiver:
    """Listens until closed; a connection may bring several requests."""

    def __init__(self, behaviour: Behaviour = GOOD, tls: ssl.SSLContext | None = None) -> None:
        self.behaviour = behaviour
        self.behaviour_for: Callable[[Delivery], Behaviour] = lambda _: self.behaviour
        self.deliveries: list[Delivery] = []
        self.event_ids: set[str] = set()
        self.connections = 0
        self.sent_bytes = 0
        self.ending = threading.Event()
        self.closed = threading.Event()
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._listen, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http{'s' if self._tls else ''}://127.0.0.1:{self.port}/hook"

    def close(self) -> None:
        self.ending.set()
        self._listener.close()

    def __enter__(self) -> Receiver:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _listen(self) -> None:
        while not self.ending.is_set():
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with suppress(OSError), sock:  # the sender may be gone, or mean to be
            if self._tls:
                sock = self._tls.wrap_socket(sock, server_side=True)
            with sock, sock.makefile("rb") as incoming:
                while (delivery := _read(incoming)) is not None:
                    self.deliveries.append(delivery)
                    self.event_ids.update(_EVENT_ID.findall(delivery.body.decode()))
                    self.behaviour_for(delivery)(self, sock)


def _read(incoming: IO[bytes]) -> Delivery | None:
    """The next whole request; None when the sender is gone."""
    start = incoming.readline().decode()
    if not start:
        return None
    method, path, _ = start.split()
    assert method == "POST"
    head = b""
    while (line := incoming.readline()).strip():
        head += line
    if not line:
        return None
    headers = {name.lower(): value for name, value in BytesParser().parsebytes(head).items()}
    length = int(headers["content-length"])
    body = incoming.read(length)
    return Delivery(path, headers, body) if len(body) == length else None


def now_ms() -> int:
    return time.time_ns() // 1_000_000
