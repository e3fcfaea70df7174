"""A TLS gateway before the fake SES that fails in every way a network or a provider can.

Told by `fail(how)`: "refuse" (a connection is reset at once), "strange certificate", "expired
certificate", "hang" (the request is read and never answered), "drip" (the answer comes a byte a
second), "reset" (after the request; SES never hears of it), "swallow" (SES does, the answer is
lost), "500", "throttle", and "lie" (a yes, and nothing is passed on).
"""

from __future__ import annotations

import json
import os
import socket
import ssl
import struct
import threading
from contextlib import suppress
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from mailer.clock import SystemClock
from tests.certificates import Certificates

CLOCK = SystemClock()
AT_ONCE = struct.pack("ii", 1, 0)
"""SO_LINGER: closing sends a reset."""
ERRORS = {"500": (500, "InternalFailure"), "throttle": (429, "TooManyRequestsException")}


class Gateway:
    """Passes everything on to `ses_port` unless it fails."""

    def __init__(self, directory: Path, ses_port: int) -> None:
        for name in ("trusted", "strange"):
            (directory / name).mkdir()
        trusted = Certificates.make(directory / "trusted")
        self.ca_file = trusted.ca_file
        self.ses_port = ses_port
        self.how = ""
        self.mended = threading.Event()
        self.attempts_us: list[int] = []
        """When something was tried while it failed."""
        self.heard_bytes = 0
        """Of requests, since it failed."""
        self._good = trusted.server()
        self._bad = {
            "strange certificate": Certificates.make(directory / "strange").server(),
            "expired certificate": trusted.server(days=-1),
        }
        self._open: set[socket.socket] = set()
        handler = type("Bound", (_Handler,), {"gateway": self})
        self._server = _Server(("127.0.0.1", 0), handler)
        self._server.gateway = self
        self.url = f"https://localhost:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def fail(self, how: str) -> None:
        """From now on, and connections that are open are gone."""
        self.attempts_us, self.heard_bytes = [], 0
        self.mended.clear()
        self.how = how
        if how == "refuse" or how in self._bad:
            for connection in self._open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            self._open.clear()

    def mend(self) -> None:
        self.how = ""
        self.mended.set()

    def stop(self) -> None:
        self.mend()
        self._server.shutdown()
        self._server.server_close()

    def tried(self) -> None:
        self.attempts_us.append(CLOCK.mono_us())

    def greeted(self, connection: socket.socket) -> socket.socket:
        """The connection with TLS. Raises OSError when it comes to nothing."""
        if self.how == "refuse" or self.how in self._bad:
            self.tried()
        if self.how == "refuse":
            reset(connection)
            raise ConnectionResetError
        tls = self._bad.get(self.how, self._good)
        encrypted = tls.wrap_socket(connection, server_side=True)
        self._open.add(encrypted)
        return encrypted


def reset(connection: socket.socket) -> None:
    """Cut it off, whoever else in this process holds it."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
    os.close(connection.detach())


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256
    gateway: Gateway

    def finish_request(self, request: Any, client_address: Any) -> None:
        with suppress(OSError, ssl.SSLError):
            super().finish_request(self.gateway.greeted(request), client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    gateway: Gateway

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        gateway, how = self.gateway, self.gateway.how
        if how:
            gateway.tried()
            gateway.heard_bytes += len(body)
        match how:
            case "hang" | "reset" | "swallow":
                if how == "swallow":
                    self.passed_on(body)
                if how == "hang":
                    gateway.mended.wait()
                self.close_connection = True
                reset(self.connection)
            case "500" | "throttle":
                status, code = ERRORS[how]
                self.give(status, b'{"message":"as told"}', {"x-amzn-ErrorType": code})
            case "drip":
                self.give(200, b"", {"Content-Length": "1000"})
                while not gateway.mended.wait(1):
                    self.wfile.write(b" ")
                self.close_connection = True
            case "lie":
                entries = json.loads(body or b"{}").get("BulkEmailEntries", [])
                yes = [{"Status": "SUCCESS", "MessageId": f"lie-{n}"} for n in range(len(entries))]
                answer = {"BulkEmailEntryResults": yes} if yes else {"MessageId": "lie"}
                self.give(200, json.dumps(answer).encode(), {})
            case _:
                self.give(*self.passed_on(body))

    def do_POST(self) -> None:
        self.do_GET()

    def passed_on(self, body: bytes) -> tuple[int, bytes, dict[str, str]]:
        connection = HTTPConnection("127.0.0.1", self.gateway.ses_port, timeout=30)
        connection.request(self.command, self.path, body, dict(self.headers))
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        error = answer.headers.get("x-amzn-ErrorType")
        return answer.status, content, {"x-amzn-ErrorType": error} if error else {}

    def give(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass
