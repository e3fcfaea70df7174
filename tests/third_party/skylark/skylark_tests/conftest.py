"""Skylark itself, as far as a test needs it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

KEY = "a-key-of-the-account"


@dataclass
class Provider:
    """Keeps what it is sent."""

    url: str = ""
    messages: list[bytes] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    server: ThreadingHTTPServer | None = None

    def stop(self) -> None:
        if self.server is not None:
            self.server.shutdown()
            self.server.server_close()
            self.server = None


@pytest.fixture
def provider() -> Iterator[Provider]:
    provider = Provider()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.answer(200, {"per_second": 50, "per_day": 10_000})

        def do_POST(self) -> None:
            message = self.rfile.read(int(self.headers["Content-Length"]))
            provider.messages.append(message)
            provider.requests.append(self.path)
            self.answer(202, {"id": f"sky-{len(provider.messages)}"})

        def answer(self, status: int, body: dict[str, Any]) -> None:
            if provider.server is None:
                self.close_connection = True
                return
            if self.headers["Authorization"] != f"Bearer {KEY}":
                status = 401
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            pass

    provider.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    provider.url = f"http://127.0.0.1:{provider.server.server_port}"
    threading.Thread(target=provider.server.serve_forever, args=(0.02,), daemon=True).start()
    yield provider
    provider.stop()
