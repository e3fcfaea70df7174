"""One request: to the address that was checked, in bounded time, with a bounded answer."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from mailer_webhook.client import MAX_ANSWER_BYTES, Session, retry_after_s
from mailer_webhook.connecting import Connector
from mailer_webhook.schedule import Answer

from tests.certificates import Certificates
from tests.webhook import receiver as r
from tests.webhook.receiver import Receiver

LOOPBACK = (ip_network("127.0.0.0/8"),)
PATIENCE_S = 0.6


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as made:
        yield made


def post(url: str, **options: Any) -> Answer:
    session = Session(Connector(LOOPBACK, **options), url, timeout_s=PATIENCE_S)
    with closing(session):
        return session.post(b'{"type":"test"}', {"webhook-id": "evt-1"})


def test_what_is_sent_arrives(receiver: Receiver) -> None:
    receiver.behaviour = r.status("200 OK", body=b"thanks\x1b[2J")
    answer = post(f"{receiver.url}?key=1")
    assert (answer.good, answer.status, answer.detail) == (True, 200, "200 OK thanks [2J")
    (delivery,) = receiver.deliveries
    assert (delivery.path, delivery.body) == ("/hook?key=1", b'{"type":"test"}')
    assert delivery.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert delivery.headers["content-type"] == "application/json"
    assert delivery.webhook_id == "evt-1"


@pytest.mark.parametrize("way", r.WRONG)
def test_wrong_answers_are_failures_and_over_in_time(receiver: Receiver, way: str) -> None:
    receiver.behaviour = r.WRONG[way]
    started = time.monotonic()
    answer = post(receiver.url)
    assert not answer.good
    assert answer.detail
    assert time.monotonic() - started < 10 * PATIENCE_S


def test_of_a_big_answer_little_is_read(receiver: Receiver) -> None:
    receiver.behaviour = r.big
    answer = post(receiver.url)
    assert answer.good
    assert len(answer.detail) < MAX_ANSWER_BYTES
    # What it could send beyond that went into the buffers of the system, not to mailer.
    assert receiver.sent_bytes < r.BIG_BYTES


def test_a_control_reads_all_of_it(receiver: Receiver) -> None:
    receiver.behaviour = r.then_close(r.big)
    with socket.create_connection(("127.0.0.1", receiver.port)) as sock:
        sock.sendall(b"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n")
        assert sum(iter(lambda: len(sock.recv(65536)), 0)) > r.BIG_BYTES
    assert receiver.sent_bytes == r.BIG_BYTES


def test_nobody_listens() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        answer = post(f"http://127.0.0.1:{unused.getsockname()[1]}/")
    assert (answer.status, answer.detail) == (None, "Connection refused")


def test_several_posts_share_a_connection(receiver: Receiver) -> None:
    with closing(Session(Connector(LOOPBACK), receiver.url)) as session:
        for _ in range(5):
            assert session.post(b"{}", {}).good
    assert (len(receiver.deliveries), receiver.connections) == (5, 1)


@pytest.mark.parametrize("way", ["closing", "big", "endless body"])
def test_but_not_one_that_the_receiver_ends_or_fills(receiver: Receiver, way: str) -> None:
    receiver.behaviour = {
        "closing": r.status("200 OK", "Connection: close"),
        "big": r.big,
        "endless body": r.endless_body,
    }[way]
    with closing(Session(Connector(LOOPBACK), receiver.url)) as session:
        first = session.post(b"{}", {})
        receiver.behaviour = r.GOOD
        assert session.post(b"{}", {}).good
    assert first.good == (way != "endless body")
    assert receiver.connections == 2


def test_a_connection_that_was_closed_meanwhile_is_made_anew(receiver: Receiver) -> None:
    receiver.behaviour = r.then_close(r.GOOD)
    with closing(Session(Connector(LOOPBACK), receiver.url)) as session:
        assert session.post(b"{}", {}).good
        receiver.closed.wait(5)
        assert session.post(b"{}", {}).good
    assert (len(receiver.deliveries), receiver.connections) == (2, 2)


def test_tls_by_a_certificate_that_is_trusted(tmp_path: Path) -> None:
    authority = Certificates.make(tmp_path)
    trusting = ssl.create_default_context(cafile=str(authority.ca_file))
    with Receiver(tls=authority.server("hook.example.com")) as receiver:
        url = f"https://hook.example.com:{receiver.port}/"
        assert post(url, tls=trusting, resolve=to_loopback).good
        assert receiver.deliveries[0].headers["host"] == f"hook.example.com:{receiver.port}"


@pytest.mark.parametrize("fault", ["unknown authority", "expired", "another name"])
def test_by_no_other_certificate_is_a_byte_of_the_event_sent(tmp_path: Path, fault: str) -> None:
    authority = Certificates.make(tmp_path)
    cafile = None if fault == "unknown authority" else str(authority.ca_file)
    trusting = ssl.create_default_context(cafile=cafile)
    context = (
        authority.server("other.example.com")
        if fault == "another name"
        else authority.server("hook.example.com", days=-1 if fault == "expired" else 1)
    )
    with Receiver(tls=context) as receiver:
        url = f"https://hook.example.com:{receiver.port}/"
        answer = post(url, tls=trusting, resolve=to_loopback)
        assert not answer.good
        assert "certificate verify failed" in answer.detail
        assert receiver.connections == 1
        assert receiver.deliveries == []


def to_loopback(host: str, port: int) -> Any:
    return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", port))]


@pytest.mark.parametrize(
    ("value", "wait_s"),
    [
        ("120", 120),
        (" 0 ", 0),
        ("Wed, 01 Jan 2030 00:01:40 GMT", 100),
        ("Tue, 31 Dec 2029 00:00:00 GMT", 0),
        ("99999999999999999999", 999_999_999),
        ("-5", None),
        ("soon", None),
        ("1e9", None),
        ("٣", None),
    ],
)
def test_retry_after(value: str, wait_s: float | None) -> None:
    assert retry_after_s(value, datetime(2030, 1, 1, tzinfo=UTC)) == wait_s
