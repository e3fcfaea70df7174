"""SNS's certificates: fetched once, from one place, and trusted only with their whole chain."""

from __future__ import annotations

import http.client
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from mailer_ses.certificates import MAX_BYTES, Certificates, connect
from mailer_ses.sns import Topic

from mailer.errors import InvalidRequest
from tests.certificates import Certificates as Tls
from tests.ses.authority import GOOD, Authority, Chain
from tests.ses.events import TOPIC_ARN


def topic_of(arn: str) -> Topic:
    topic = Topic.of(arn)
    assert topic
    return topic


TOPIC = topic_of(TOPIC_ARN)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.make(tmp_path_factory.mktemp("authority"))


def now() -> datetime:
    return datetime.now(UTC)


def test_a_good_certificate_is_trusted(authority: Authority) -> None:
    key = Certificates(authority.directory).key(TOPIC, GOOD, now())

    assert key.public_numbers() == authority.key.public_key().public_numbers()


@pytest.mark.parametrize(
    ("arn", "name", "trusted"),
    [
        (TOPIC_ARN, "sns.eu-central-1.amazonaws.com", True),
        (TOPIC_ARN, "sns-signing.eu-central-1.amazonaws.com", True),
        (TOPIC_ARN, "sns-signing.eu-south-1.amazonaws.com", False),
        (TOPIC_ARN, "evil.test", False),
        (TOPIC_ARN, "sns.amazonaws.com.evil.test", False),
        ("arn:aws-cn:sns:cn-north-1:123456789012:x", "sns-cn-north-1.amazonaws.com.cn", True),
        ("arn:aws-cn:sns:cn-north-1:123456789012:x", "sns.amazonaws.com", False),
        ("arn:aws-us-gov:sns:us-gov-east-1:123456789012:x",
         "sns-us-gov-west-1.amazonaws.com", True),
    ],
)  # fmt: skip
def test_the_name_is_that_of_sns_in_the_topic_s_region(
    authority: Authority, arn: str, name: str, *, trusted: bool
) -> None:
    topic = topic_of(arn)
    named = authority.issue("SimpleNotificationService-named.pem", name)
    certificates = Certificates(named.directory)
    if trusted:
        certificates.key(topic, named.file, now())
    else:
        with pytest.raises(InvalidRequest, match="not issued to SNS"):
            certificates.key(topic, named.file, now())


def test_validity_is_looked_at_each_time(authority: Authority) -> None:
    expired = authority.issue("SimpleNotificationService-old.pem", "sns.amazonaws.com", days=-1)
    certificates = Certificates(authority.directory)
    with pytest.raises(InvalidRequest, match="not to be trusted"):
        certificates.key(TOPIC, expired.file, now())

    certificates.key(TOPIC, GOOD, now())
    with pytest.raises(InvalidRequest, match="not to be trusted"):
        certificates.key(TOPIC, GOOD, now() + timedelta(days=31))
    with pytest.raises(InvalidRequest, match="not to be trusted"):
        Certificates(authority.directory).key(TOPIC, GOOD, now() - timedelta(days=90))


def test_the_chain_ends_in_a_root_that_is_trusted(authority: Authority, tmp_path: Path) -> None:
    other = Authority.make(tmp_path)
    (tmp_path / "roots.pem").write_bytes((authority.directory / "roots.pem").read_bytes())
    with pytest.raises(InvalidRequest, match="not to be trusted"):
        Certificates(other.directory).key(TOPIC, GOOD, now())

    (tmp_path / "roots.pem").unlink()  # the public roots don't know our authority either
    with pytest.raises(InvalidRequest, match="not to be trusted"):
        Certificates(other.directory).key(TOPIC, GOOD, now())


def test_a_certificate_not_yet_in_the_directory_may_come(authority: Authority) -> None:
    with pytest.raises(OSError, match="SNS_CERT_DIR has no"):
        Certificates(authority.directory).key(TOPIC, "SimpleNotificationService-1.pem", now())


class Aws:
    """Servers in the place of SNS's hosts and of an authority's; they answer as told, and count."""

    def __init__(self, tls: ssl.SSLContext, ca_file: Path, body: bytes) -> None:
        self.status, self.body, self.headers = 200, body, dict[str, str]()
        self.issuer = b""
        self.asked: list[str] = []
        aws = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                aws.asked.append(self.path)
                self.send_response(aws.status)
                for name, value in aws.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(aws.body if self.path.endswith(".pem") else aws.issuer)

            def log_message(self, *_: object) -> None:
                pass

        self._servers = {tls: HTTPServer(("127.0.0.1", 0), Handler) for tls in (True, False)}
        self._servers[True].socket = tls.wrap_socket(self._servers[True].socket, server_side=True)
        self._trust = ssl.create_default_context(cafile=ca_file)
        for server in self._servers.values():
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def tls_port(self) -> int:
        port: int = self._servers[True].server_address[1]
        return port

    def connect(self, host: str, tls: bool) -> http.client.HTTPConnection:
        assert host == (TOPIC.host if tls else "crt.r2m01.amazontrust.com")
        port = self._servers[tls].server_address[1]
        if not tls:
            return http.client.HTTPConnection("localhost", port, timeout=5)
        return http.client.HTTPSConnection("localhost", port, timeout=5, context=self._trust)

    def stop(self) -> None:
        for server in self._servers.values():
            server.shutdown()
            server.server_close()


@pytest.fixture
def aws_hosts(authority: Authority, tmp_path: Path) -> Iterator[Aws]:
    tls = Tls.make(tmp_path)
    # With its issuer in the same file: there is no authority of AWS here to fetch it from.
    chain = [(authority.directory / name).read_bytes() for name in (GOOD, "roots.pem")]
    aws = Aws(tls.server(), tls.ca_file, b"".join(chain))
    yield aws
    aws.stop()


def fetching(aws: Aws) -> Certificates:
    return Certificates(None, aws.connect)


def test_a_certificate_whose_chain_no_public_root_knows_is_refused(aws_hosts: Aws) -> None:
    with pytest.raises(InvalidRequest, match="not to be trusted"):
        fetching(aws_hosts).key(TOPIC, GOOD, now())

    assert aws_hosts.asked == [f"/{GOOD}"]


def test_a_redirect_is_not_followed(aws_hosts: Aws) -> None:
    aws_hosts.status, aws_hosts.headers = 302, {"Location": f"/elsewhere/{GOOD}"}
    with pytest.raises(OSError, match="answered 302"):
        fetching(aws_hosts).key(TOPIC, GOOD, now())

    assert aws_hosts.asked == [f"/{GOOD}"]


def test_a_host_that_a_rebound_name_leads_to_is_asked_nothing(aws_hosts: Aws) -> None:
    """Whoever answers there has no certificate of that name that a public root vouches for."""

    def rebound(host: str, tls: bool) -> http.client.HTTPConnection:
        ours = connect(host, tls)
        assert (ours.host, ours.port) == (TOPIC.host, 443)
        ours.host, ours.port = "localhost", aws_hosts.tls_port
        return ours

    with pytest.raises(OSError, match="certificate verify failed"):
        Certificates(None, rebound).key(TOPIC, GOOD, now())

    assert aws_hosts.asked == []


@pytest.mark.parametrize("status", [403, 404])
def test_a_certificate_sns_does_not_have(aws_hosts: Aws, status: int) -> None:
    aws_hosts.status = status
    with pytest.raises(InvalidRequest, match="SNS does not have"):
        fetching(aws_hosts).key(TOPIC, GOOD, now())


@pytest.mark.parametrize(
    ("status", "body"), [(500, b""), (503, b"slow down"), (200, b"x" * (MAX_BYTES + 1))]
)
def test_a_fault_that_may_pass_is_an_os_error(aws_hosts: Aws, status: int, body: bytes) -> None:
    aws_hosts.status, aws_hosts.body = status, body
    with pytest.raises(OSError, match="answered"):
        fetching(aws_hosts).key(TOPIC, GOOD, now())


@pytest.mark.parametrize("body", [b"", b"no PEM", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END"])
def test_what_is_no_certificate_is_refused(aws_hosts: Aws, body: bytes) -> None:
    aws_hosts.body = body
    with pytest.raises(InvalidRequest, match="names no certificate"):
        fetching(aws_hosts).key(TOPIC, GOOD, now())


def test_an_unreachable_host_is_an_os_error(aws_hosts: Aws) -> None:
    aws_hosts.stop()
    with pytest.raises(OSError, match="refused"):
        fetching(aws_hosts).key(TOPIC, GOOD, now())


def test_a_leaf_alone_needs_an_issuer_that_aws_publishes(
    aws_hosts: Aws, authority: Authority
) -> None:
    aws_hosts.body = (authority.directory / GOOD).read_bytes()
    with pytest.raises(OSError, match="SNS_CERT_DIR"):
        fetching(aws_hosts).key(TOPIC, GOOD, now())


ISSUER_URL = "http://crt.r2m01.amazontrust.com/r2m01.cer"


@pytest.fixture(scope="module")
def chain() -> Chain:
    return Chain.make(ISSUER_URL)


def serve(aws: Aws, chain: Chain) -> Certificates:
    aws.body = chain.leaf.public_bytes(Encoding.PEM)
    aws.issuer = chain.issuer.public_bytes(Encoding.DER)
    return Certificates(None, aws.connect, [chain.root])


def test_leaf_and_issuer_are_fetched_once_and_trusted_for_their_root(
    aws_hosts: Aws, chain: Chain
) -> None:
    certificates = serve(aws_hosts, chain)

    keys = {id(certificates.key(TOPIC, GOOD, now())) for _ in range(5)}

    assert len(keys) == 1
    assert aws_hosts.asked == [f"/{GOOD}", "/r2m01.cer"]


def test_an_issuer_that_did_not_sign_it_vouches_for_nothing(aws_hosts: Aws, chain: Chain) -> None:
    certificates = serve(aws_hosts, chain)
    aws_hosts.issuer = Chain.make(ISSUER_URL).issuer.public_bytes(Encoding.DER)
    with pytest.raises(InvalidRequest, match="not to be trusted"):
        certificates.key(TOPIC, GOOD, now())


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest/meta-data",
        "http://crt.r2m01.amazontrust.com.evil.test/r2m01.cer",
        "http://crt.r2m01.amazontrust.com:8080/r2m01.cer",
        "http://u@crt.r2m01.amazontrust.com/r2m01.cer",
        "file:///etc/passwd",
    ],
)
def test_issuers_are_fetched_from_known_places_only(aws_hosts: Aws, url: str) -> None:
    certificates = serve(aws_hosts, Chain.make(url))
    with pytest.raises(OSError, match="SNS_CERT_DIR"):
        certificates.key(TOPIC, GOOD, now())

    assert aws_hosts.asked == [f"/{GOOD}"]
