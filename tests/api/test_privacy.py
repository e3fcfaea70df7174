"""Neither logs at INFO nor Sentry hear of a subject, body, address, token or key."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from mailer import tokens
from tests.api.service import JSON, Service
from tests.api.test_notifications import PLUGIN, tell
from tests.installation import install_plugin
from tests.waiting import until

CANARY = "canary7d1"
KEY = f"{CANARY}-key-of-more-than-thirty-two-bytes"


def _use_everything(service: Service) -> None:
    key = {"X-API-KEY": KEY, **JSON}
    fields = dict.fromkeys(("subject", "content", "text"), CANARY)
    message = {
        "emails": [f"{CANARY}@example.com"],
        "recipients": [{"email": f"{CANARY}2@example.com", "name": CANARY}],
        "headers": {"X-Canary": CANARY},
        "tags": {CANARY: CANARY},
        **fields,
    }
    good = service.post("/v1/messages", {"messages": [message]}, {**key, "Idempotency-Key": CANARY})
    request_id = good.json["messages"][0]["request_ids"][0]
    with closing(service.store()) as store:
        token = tokens.sign(store.signing_key(), tokens.OPEN, request_id)
    for method, path in [
        ("GET", f"/v1/events/open?request_id={token}"),
        ("GET", f"/v1/events/click?token={CANARY}"),
        ("GET", f"/v1/topics/{CANARY}"),
        ("GET", f"/v1/mails?recipient={CANARY}@example.com"),
        ("GET", f"/v1/mails?topic_id={CANARY}&{CANARY}=1"),
        ("DELETE", f"/v1/suppressions?email={CANARY}@example.com"),
        ("GET", f"/{CANARY}"),
        ("PUT", f"/v1/topics/{CANARY}"),
        ("GET", f"/v1/topics/{CANARY}%ff"),
    ]:
        service.request(method, path, headers=key)
    for bad in ({"messages": CANARY}, {CANARY: 1}, {"messages": [{**message, "emails": [CANARY]}]}):
        service.post("/v1/messages", bad, key)
    service.post("/v1/messages", b'{"' + CANARY.encode(), key)
    service.get("/v1/topics", Authorization=f"Bearer {CANARY}", **{"X-API-KEY": CANARY})
    tell(service, "broken", CANARY)
    with closing(service.socket()) as client:
        client.sendall(f"GET /{CANARY} HTTP/7\r\n{CANARY}\r\n\r\n".encode())
        client.recv(1000)


@contextmanager
def sentry() -> Iterator[tuple[str, list[bytes]]]:
    """A Sentry of the test's own: its DSN, and what it was sent."""
    reports: list[bytes] = []

    class Keep(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers["Content-Encoding"] == "gzip":
                body = gzip.decompress(body)
            reports.append(str(self.headers).encode() + body)
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Keep) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://public@127.0.0.1:{server.server_address[1]}/1", reports
        server.shutdown()
        thread.join()


def test_sentry_hears_of_an_error_of_ours_and_of_no_mail(
    serve: Callable[..., Service], tmp_path: Path
) -> None:
    site = tmp_path / "site"
    install_plugin(site, "post_provider", PLUGIN)
    with sentry() as (dsn, reports):
        service = serve(API_KEY=KEY, SENTRY_DSN=dsn, python_path=[site])

        _use_everything(service)
        until(lambda: reports)
        service.stop()

    assert b"RuntimeError" in b"".join(reports)
    assert CANARY.encode() not in b"".join(reports)
    assert b"secret-canary" not in b"".join(reports)


def test_logs_have_no_mail_in_them(serve: Callable[..., Service], tmp_path: Path) -> None:
    site = tmp_path / "site"
    install_plugin(site, "post_provider", PLUGIN)
    service = serve(API_KEY=KEY, python_path=[site])

    _use_everything(service)
    service.stop()

    assert 'msg="POST /v1/messages" status=200' in service.log
    assert 'msg="POST /v1/events/results" status=500' in service.log
    assert CANARY not in service.log
