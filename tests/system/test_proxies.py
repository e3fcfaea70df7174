"""nginx and Caddy as deploy/ configures them, before an API: one contract for both."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from http.client import HTTPSConnection
from pathlib import Path

import jwt
import pytest

from tests.api.service import Answer, Service
from tests.certificates import Certificates
from tests.installation import free_port
from tests.waiting import until

DEPLOY = Path(__file__).parent.parent.parent / "deploy"
NAME = "mail.example.org"
SECRET = "a secret of more than thirty-two bytes"
TOKEN = jwt.encode({"sub": "shop", "exp": 4_000_000_000}, SECRET)


class Proxy:
    """One of the two, on ports of its own, with everything of its configuration but these."""

    def __init__(
        self, directory: Path, upstream: int, configure: Callable[[Proxy], list[str | Path]]
    ) -> None:
        self.directory = directory
        self.upstream = upstream
        self.https, self.http = free_port(), free_port()
        self.authority = Certificates.make(directory)
        self.authority.server(NAME)
        self.certificate = directory / f"{NAME}.1.pem"
        self.process = subprocess.Popen(configure(self))
        until(self._answers, within_s=20)

    def _answers(self) -> bool:
        assert self.process.poll() is None
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", self.https)).close()
            return True
        return False

    def connection(self, context: ssl.SSLContext | None = None) -> HTTPSConnection:
        context = context or ssl.create_default_context(cafile=str(self.authority.ca_file))
        connection = HTTPSConnection(NAME, self.https, context=context)
        plain = socket.create_connection(("127.0.0.1", self.https), timeout=30)
        connection.sock = context.wrap_socket(plain, server_hostname=NAME)
        return connection

    def call(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        with closing(self.connection()) as connection:
            connection.request(method, path, body, {"Authorization": f"Bearer {TOKEN}", **headers})
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())


def nginx(proxy: Proxy) -> list[str | Path]:
    """Its configuration, written for this proxy's ports; the command that runs it."""
    configuration = (DEPLOY / "nginx" / "mailer.conf").read_text()
    live = f"/etc/letsencrypt/live/{NAME}"
    for written, ours in {
        "127.0.0.1:3000": f"127.0.0.1:{proxy.upstream}",
        f"{live}/fullchain.pem": str(proxy.certificate),
        f"{live}/privkey.pem": str(proxy.certificate),
        "listen 443": f"listen 127.0.0.1:{proxy.https}",
        "listen [::]:443": f"listen [::1]:{proxy.https}",
        "listen 80": f"listen 127.0.0.1:{proxy.http}",
        "listen [::]:80": f"listen [::1]:{proxy.http}",
    }.items():
        assert written in configuration
        configuration = configuration.replace(written, ours)
    places = "".join(
        f"{kind}_temp_path {proxy.directory}/{kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    main = proxy.directory / "nginx.conf"
    main.write_text(
        f"daemon off;\nuser root;\npid {proxy.directory}/pid;\nerror_log {proxy.directory}/error;\n"
        f"events {{}}\nhttp {{\n{places}{configuration}}}\n"
    )
    return ["nginx", "-c", main]


def caddy(proxy: Proxy) -> list[str | Path]:
    configuration = (DEPLOY / "caddy" / "Caddyfile").read_text()
    options = f"{{\n\tadmin off\n\tauto_https disable_certs\n\thttp_port {proxy.http}\n"
    for written, ours in {
        "127.0.0.1:3000": f"127.0.0.1:{proxy.upstream}",
        "\n{\n": f"\n{options}\thttps_port {proxy.https}\n",
        f"\n{NAME} {{\n": f"\n{NAME} {{\n\ttls {proxy.certificate} {proxy.certificate}\n",
    }.items():
        assert configuration.count(written) == 1
        configuration = configuration.replace(written, ours)
    main = proxy.directory / "Caddyfile"
    main.write_text(configuration)
    return ["env", f"HOME={proxy.directory}", "caddy", "run", "--config", main]


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    settings = {"JWT_SECRET": SECRET, "TRUSTED_PROXIES": "127.0.0.1"}
    service = Service(tmp_path_factory.mktemp("api"), settings)
    yield service
    service.stop()


@pytest.fixture(scope="module", params=[nginx, caddy])
def proxy(
    request: pytest.FixtureRequest, api: Service, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxy]:
    started = Proxy(tmp_path_factory.mktemp("proxy"), api.port, request.param)
    yield started
    started.process.terminate()
    started.process.wait()


def test_the_api_is_reached(proxy: Proxy) -> None:
    message = {"emails": ["ann@example.com"], "subject": "Hello", "text": "Hello"}
    body = json.dumps({"messages": [message]}).encode()
    answer = proxy.call("POST", "/v1/messages", body, **{"Content-Type": "application/json"})
    assert answer.status == 200, answer.body
    assert "Strict-Transport-Security" in answer.headers
    named = proxy.call("GET", "/v1/topics", None, **{"X-Request-ID": "order-4711"})
    assert named.headers["X-Request-ID"] == "order-4711"
    assert proxy.call("GET", "/v1/topics/a%2Fb?x=1").status == 404
    assert proxy.call("GET", "/v1/events/open?request_id=x", Authorization="").status == 200


@pytest.mark.parametrize(
    "path", ["/ui", "/ui/", "/metrics", "/health", "/ready", "/openapi.json", "/", "/v1/../metrics"]
)
def test_what_is_not_for_the_world_is_closed(proxy: Proxy, api: Service, path: str) -> None:
    assert proxy.call("GET", path).status == 404
    assert "GET /metrics" not in api.log


def test_the_api_learns_who_calls_whatever_the_client_says(proxy: Proxy, api: Service) -> None:
    said = {"X-Forwarded-For": "203.0.113.9", "Forwarded": "for=203.0.113.9", "Authorization": "no"}
    before = len(api.log)
    assert proxy.call("GET", "/v1/topics", None, **said).status == 401
    assert " client=127.0.0.1 " in api.log[before:]


def test_a_body_beyond_the_bound_is_refused(proxy: Proxy) -> None:
    with closing(proxy.connection()) as connection:
        connection.putrequest("POST", "/v1/messages")
        connection.putheader("Authorization", f"Bearer {TOKEN}")
        connection.putheader("Content-Type", "application/json")
        connection.putheader("Content-Length", "30000000")
        connection.endheaders()
        with suppress(OSError):
            for _ in range(300):
                connection.send(b" " * 100_000)
        assert connection.getresponse().status == 413


def test_plain_http_is_sent_to_https(proxy: Proxy) -> None:
    with closing(socket.create_connection(("127.0.0.1", proxy.http), timeout=10)) as plain:
        plain.sendall(f"GET /v1/x HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\n\r\n".encode())
        head = plain.recv(4096).decode()
    assert head.split()[1] in {"301", "308"}
    assert f"Location: https://{NAME}" in head


def test_old_tls_is_refused(proxy: Proxy) -> None:
    old = ssl.create_default_context(cafile=str(proxy.authority.ca_file))
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version = ssl.TLSVersion.TLSv1
    old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError):
        proxy.connection(old)


def test_the_configuration_is_as_its_own_program_writes_it() -> None:
    file = DEPLOY / "caddy" / "Caddyfile"
    caddy = shutil.which("caddy") or "caddy"
    formatted = subprocess.run([caddy, "fmt", file], capture_output=True, text=True, check=True)
    assert formatted.stdout == file.read_text()
