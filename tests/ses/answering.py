"""An HTTP server within the test, for what is posted to it and for canned answers."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Answering:
    """An HTTP server that keeps what is posted to it, and answers as told."""

    def __init__(self) -> None:
        self.posted: list[tuple[Mapping[str, str], bytes]] = []
        self.status, self.answer = 200, b"{}"
        answering = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                answering.posted.append((headers, body))
                self.send_response(answering.status)
                self.send_header("Content-Length", str(len(answering.answer)))
                self.end_headers()
                self.wfile.write(answering.answer)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()
