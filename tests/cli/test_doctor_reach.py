"""What `mailer doctor` finds at the API's address and at SERVER_URL."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from mailer.commands import reach
from mailer.hookspecs import Check
from mailer.settings import load
from mailer.vocabulary import CheckResult
from tests.certificates import Certificates

OK, WARNING, FAILURE = CheckResult

Serve = Callable[..., int]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates.make(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def serve() -> Iterator[Serve]:
    """A server on localhost that gives one answer to everything; its port."""
    servers: list[ThreadingHTTPServer] = []

    def start(status: int, body: bytes, tls: ssl.SSLContext | None = None) -> int:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if tls:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return server.server_address[1]

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def public(url: str, now_s: float | None = None) -> dict[str, Check]:
    found = reach.public_url(load({"SERVER_URL": url}), now_s or time.time())
    return {check.name: check for check in found}


@pytest.fixture
def trusted(certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> Certificates:
    """As an authority in the system's list."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.ca_file))
    return certificates


HEALTHY = b'{"status":"ok"}'


def test_a_public_address_that_is_well(serve: Serve, trusted: Certificates) -> None:
    port = serve(200, HEALTHY, trusted.server(days=60))
    found = public(f"https://localhost:{port}")
    assert {name: check.result for name, check in found.items()} == {
        "SERVER_URL": OK,
        "certificate": OK,
    }
    assert found["certificate"].finding == "valid for 59 days more"


def test_a_certificate_that_should_have_been_renewed(serve: Serve, trusted: Certificates) -> None:
    port = serve(200, HEALTHY, trusted.server(days=60))
    check = public(f"https://localhost:{port}", time.time() + 50 * 86_400)["certificate"]
    assert (check.result, check.finding) == (WARNING, "valid for 9 days more")


@pytest.mark.parametrize(
    ("host", "days", "words"),
    [("localhost", -1, "expired"), ("other.example", 30, "not valid for 'localhost'")],
)
def test_a_certificate_that_is_not_valid(
    serve: Serve, trusted: Certificates, host: str, days: int, words: str
) -> None:
    port = serve(200, HEALTHY, trusted.server(host, days=days))
    check = public(f"https://localhost:{port}")["SERVER_URL"]
    assert check.result is FAILURE
    assert "its certificate is not valid" in check.finding
    assert words in check.finding


def test_an_authority_nobody_knows(serve: Serve, certificates: Certificates) -> None:
    port = serve(200, HEALTHY, certificates.server())
    assert "certificate is not valid" in public(f"https://localhost:{port}")["SERVER_URL"].finding


@pytest.mark.parametrize(
    ("status", "body", "result", "words"),
    [
        (200, HEALTHY, WARNING, "without TLS"),
        (502, b"Bad gateway", FAILURE, "answers 502, not as mailer does"),
        (200, b"<h1>It works!</h1>", FAILURE, "not as mailer does"),
        (200, b"[1]", FAILURE, "not as mailer does"),
        (301, b"", FAILURE, "answers 301"),
    ],
)
def test_what_stands_there_is_told(
    serve: Serve, status: int, body: bytes, result: CheckResult, words: str
) -> None:
    check = public(f"http://localhost:{serve(status, body)}/mail")["SERVER_URL"]
    assert (check.result, words in check.finding) == (result, True)
    assert check.advice


def test_nobody_is_there() -> None:
    check = public("http://127.0.0.1:1")["SERVER_URL"]
    assert (check.result, "Connection refused" in check.finding) == (FAILURE, True)


def test_a_public_address_is_asked_for_where_mail_leaves_the_machine() -> None:
    (check,) = reach.public_url(load({"TRANSPORT": "smtp"}), 0)
    assert check.result is WARNING
    assert list(reach.public_url(load({}), 0)) == []


@pytest.mark.parametrize(("status", "result"), [(200, OK), (503, FAILURE)])
def test_the_api_must_be_ready(serve: Serve, status: int, result: CheckResult) -> None:
    port = serve(status, b"{}")
    for bind in (f"127.0.0.1:{port}", f"0.0.0.0:{port}"):
        (check,) = reach.api(load({"BIND": bind, "ALLOW_UNAUTHENTICATED": "1"}))
        assert check.result is result
