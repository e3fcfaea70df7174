"""A proxy in front of moto's server, in the test's process: sees each call, holds or changes it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final
from urllib.parse import parse_qs, urlsplit

from tests.waiting import until

RECEIVE: Final = "ReceiveMessage"
DELETE: Final = "DeleteMessageBatch"


class Between:
    """`held` are the calls that wait for `hold` to end; `calls` all operations so far.

    `change` is given an operation and what was answered, and says what the caller gets.
    """

    def __init__(self, moto_url: str, change: Callable[[str, bytes], bytes]) -> None:
        self.calls: list[str] = []
        self.held: list[str] = []
        self._hold: tuple[str, bool] | None = None
        self._released = threading.Event()
        between, target = self, urlsplit(moto_url).netloc

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                operation = _operation(self.headers.get("X-Amz-Target", ""), body)
                between.calls.append(operation)
                between._wait(operation, forwarded=False)
                connection = HTTPConnection(target, timeout=60)
                connection.request("POST", self.path, body, dict(self.headers))
                answer = connection.getresponse()
                content = change(operation, answer.read())
                if operation != RECEIVE or b"Messages" in content:
                    between._wait(operation, forwarded=True)
                self.send_response(answer.status)
                self.send_header("Content-Type", answer.headers["Content-Type"])
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        self._server = _Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @contextmanager
    def hold(self, operation: str, *, forwarded: bool) -> Iterator[None]:
        """Let calls of this operation hang, before or after SQS has seen them."""
        self.held.clear()
        self._released.clear()
        self._hold = operation, forwarded
        try:
            yield
        finally:
            self._hold = None
            self._released.set()

    def until_held(self) -> None:
        until(lambda: self.held, within_s=30)

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _wait(self, operation: str, *, forwarded: bool) -> None:
        if self._hold == (operation, forwarded):
            self.held.append(operation)
            self._released.wait(60)


def _operation(target: str, body: bytes) -> str:
    """As the JSON protocol has it in a header, the query protocol in the body."""
    return target.rpartition(".")[2] or parse_qs(body.decode())["Action"][0]


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Whoever was killed is not there to be answered."""
