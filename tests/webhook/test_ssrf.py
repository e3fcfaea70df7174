"""No webhook reaches what only this machine can: a canary listens on loopback, and stays unvisited.

The control opens loopback by WEBHOOK_ALLOW_PRIVATE: the same requests reach the canary then.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing
from ipaddress import ip_network
from typing import Any

import pytest
from mailer_webhook.client import Session
from mailer_webhook.connecting import Connector, resolve
from mailer_webhook.schedule import Answer

from tests.webhook import receiver as r
from tests.webhook.receiver import Receiver

LOOPBACK = (ip_network("127.0.0.0/8"),)
ELSEWHERE = (ip_network("10.0.0.0/8"),)
"""A private range is open, so that http is spoken at all; the canary is not in it."""

REACHES_LOOPBACK = (
    "http://127.0.0.1:{port}/",
    "http://localhost:{port}/",
    "http://[::ffff:127.0.0.1]:{port}/",
    "http://[::ffff:7f00:1]:{port}/",
)
AS_INET_ATON_READS_IT = (
    "2130706433",
    "0x7f000001",
    "017700000001",
    "0177.0.0.1",
    "0x7f.1",
    "127.1",
)
"""Refused as URLs; here as what a resolver is given, should one ever get so far."""


@pytest.fixture
def canary() -> Iterator[Receiver]:
    with Receiver() as made:
        yield made


def visit(url: str, connector: Connector, timeout_s: float = 5) -> Answer:
    with closing(Session(connector, url, timeout_s=timeout_s)) as session:
        return session.post(b"{}", {})


@pytest.mark.parametrize("url", REACHES_LOOPBACK)
def test_a_url_that_means_this_machine(canary: Receiver, url: str) -> None:
    url = url.format(port=canary.port)
    assert not visit(url, Connector(ELSEWHERE)).good
    assert not visit(url.replace("http:", "https:"), Connector(())).good
    assert canary.connections == 0
    assert visit(url, Connector(LOOPBACK)).good
    assert canary.connections == 1


@pytest.mark.parametrize("host", AS_INET_ATON_READS_IT)
def test_an_address_in_clothes(canary: Receiver, host: str) -> None:
    def as_the_system_does(_: str, port: int) -> Any:
        return resolve(host, port)

    assert as_the_system_does("", 1)[0][4][0] == "127.0.0.1"
    assert not visit(f"http://{host}:{canary.port}/", Connector(ELSEWHERE)).good
    url = f"http://hook.example.com:{canary.port}/"
    assert not visit(url, Connector(ELSEWHERE, resolve=as_the_system_does)).good
    assert canary.connections == 0
    assert visit(url, Connector(LOOPBACK, resolve=as_the_system_does)).good


def entry(address: str, port: int) -> tuple[Any, ...]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return (family, socket.SOCK_STREAM, 0, "", (address, port))


class Rebinding:
    """A name that is harmless when it is looked up first, and this machine ever after."""

    def __init__(self, first: str) -> None:
        self.answers = [first]
        self.asked = 0

    def __call__(self, host: str, port: int) -> Any:
        self.asked += 1
        return [entry(self.answers.pop() if self.answers else "127.0.0.1", port)]


def test_a_name_is_resolved_once_for_each_connection(canary: Receiver) -> None:
    """The address that was checked is the one connected to: 127.8.8.8 here, which is open."""
    rebinding = Rebinding("127.8.8.8")
    connector = Connector((ip_network("127.8.8.8/32"),), resolve=rebinding)
    url = f"http://hook.example.com:{canary.port}/"
    answer = visit(url, connector)
    assert rebinding.asked == 1
    assert answer.detail == "Connection refused"  # by 127.8.8.8, where nobody listens
    assert "not within WEBHOOK_ALLOW_PRIVATE" in visit(url, connector).detail
    assert canary.connections == 0


def test_a_client_that_checks_and_then_connects_by_name_would_be_fooled(canary: Receiver) -> None:
    """The control of the test above."""
    rebinding = Rebinding("127.8.8.8")
    checked = rebinding("hook.example.com", canary.port)
    assert checked[0][4][0] == "127.8.8.8"
    family, kind, _, _, where = rebinding("hook.example.com", canary.port)[0]
    with socket.socket(family, kind) as sock:
        sock.connect(where)
        sock.sendall(b"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n")
        assert sock.recv(100).startswith(b"HTTP/1.1 204")
    assert canary.connections == 1


@pytest.mark.parametrize(
    "found", [("10.0.0.1", "127.0.0.1"), ("127.0.0.1", "::1"), ("169.254.169.254", "fd00:ec2::254")]
)
def test_of_several_addresses_only_those_that_may_be(canary: Receiver, found: Any) -> None:
    connector = Connector(
        (ip_network("10.0.0.1/32"),),
        resolve=lambda host, port: [entry(address, port) for address in found],
    )
    assert not visit(f"http://hook.example.com:{canary.port}/", connector, timeout_s=0.3).good
    assert canary.connections == 0


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_redirect_is_an_answer_like_others(canary: Receiver, code: int) -> None:
    location = f"Location: http://127.0.0.1:{canary.port}/"
    with Receiver(r.status(f"{code} Elsewhere", location)) as receiver:
        answer = visit(receiver.url, Connector(LOOPBACK))  # even where the target is open
        assert (answer.good, answer.status) == (False, code)
        assert receiver.connections == 1
    assert canary.connections == 0


def test_no_proxy_of_the_environment_is_asked(
    canary: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would connect to what it is told, unchecked."""
    for name in ("http_proxy", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{canary.port}")
    with Receiver() as receiver:
        assert visit(receiver.url, Connector(LOOPBACK)).good
    assert canary.connections == 0
