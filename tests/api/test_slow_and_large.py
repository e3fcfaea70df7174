"""Clients that send too much, or too little at a time, hold up nobody and cost bounded memory."""

from __future__ import annotations

import json
import resource
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import pytest

from mailer.api.server import CONNECTIONS_A_WORKER
from tests.api.service import JSON, Service
from tests.waiting import until

GOOD = json.dumps(
    {"messages": [{"emails": ["a@example.com"], "subject": "s", "content": "c"}]}
).encode()
HUGE_BYTES = 200_000_000
PART = b" " * 100_000
GROWTH_BYTES = 100_000_000
HEALTHY_WITHIN_S = 3


def test_a_declared_huge_body_is_413_before_any_of_it_is_sent(api: Service) -> None:
    with closing(api.socket()) as client:
        client.sendall(_head("Content-Length: 200000000"))

        assert client.recv(64).startswith(b"HTTP/1.1 413 ")


def test_a_chunked_huge_body_is_413_before_its_end(serve: Callable[..., Service]) -> None:
    service = serve(MAX_BODY_BYTES="1000000")
    with closing(service.socket()) as client:
        client.sendall(_head("Transfer-Encoding: chunked"))
        for _ in range(20):
            client.sendall(b"20000\r\n" + b" " * 0x20000 + b"\r\n")

        assert client.recv(64).startswith(b"HTTP/1.1 413 ")


def test_a_body_of_the_largest_size_is_read(serve: Callable[..., Service]) -> None:
    service = serve(MAX_BODY_BYTES="1000000")

    assert service.post("/v1/messages", GOOD.ljust(1_000_000)).status == 200
    assert service.post("/v1/messages", GOOD.ljust(1_000_001)).status == 413


def test_a_body_cut_short_is_not_taken_for_a_whole_one(api: Service) -> None:
    body = GOOD.replace(b'"c"', b'"c","topic_id":"cut"')
    with closing(api.socket()) as client:
        client.sendall(_head("Transfer-Encoding: chunked"))
        client.sendall(b"%x\r\n%s\r\n" % (len(body), body))
        client.shutdown(socket.SHUT_RDWR)
    api.send("a@example.com", topic_id="after-cut")

    assert api.get("/v1/topics/after-cut").status == 200
    assert api.get("/v1/topics/cut").status == 404


class Flood(threading.Thread):
    """A client that sends a huge body to its end, whatever it is told meanwhile."""

    def __init__(self, service: Service, how: str) -> None:
        super().__init__()
        self.sent_bytes = 0
        self.answer = b""
        self._client = service.socket()
        chunked = how == "chunked"
        length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {HUGE_BYTES}"
        self._head = _head(length)
        self._part = b"%x\r\n%s\r\n" % (len(PART), PART) if chunked else PART

    def run(self) -> None:
        with closing(self._client):
            with suppress(ConnectionError):  # it may be cut off
                self._client.sendall(self._head)
                while self.sent_bytes < HUGE_BYTES:
                    self._client.sendall(self._part)
                    self.sent_bytes += len(PART)
            with suppress(ConnectionError):
                self.answer = self._client.recv(64)


@pytest.mark.parametrize("how", ["declared", "chunked"])
def test_a_huge_body_that_is_sent_all_the_same_is_not_kept(
    serve: Callable[..., Service], how: str
) -> None:
    service = serve()
    (worker,) = service.workers()
    peak = Peak(worker)
    flood = Flood(service, how)
    flood.start()
    longest_s = 0.0
    while flood.is_alive():
        began = time.monotonic()
        assert service.get("/health").status == 200
        longest_s = max(longest_s, time.monotonic() - began)
    flood.join()
    print(
        f"\n{flood.sent_bytes:,} bytes sent, memory grew by {peak.grown_bytes:,},"
        f" /health in {longest_s:.2f} s at most"
    )
    assert flood.answer.startswith(b"HTTP/1.1 413 ")
    assert flood.sent_bytes == HUGE_BYTES
    assert longest_s <= HEALTHY_WITHIN_S
    assert peak.grown_bytes <= GROWTH_BYTES


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/events/results"])
def test_a_bomb_is_not_inflated(api: Service, bomb: bytes, path: str) -> None:
    (worker,) = api.workers()
    peak = Peak(worker)
    answer = api.request("POST", path, bomb, {**JSON, "Content-Encoding": "gzip"})
    assert answer.status == 415
    assert peak.grown_bytes <= 2 * len(bomb)


def test_control_a_body_that_is_kept_is_seen(api: Service) -> None:
    (worker,) = api.workers()
    peak = Peak(worker)
    assert api.post("/v1/messages", GOOD.ljust(24_000_000)).status == 200
    assert peak.grown_bytes > 20_000_000


@pytest.fixture(scope="module")
def bomb() -> bytes:
    """A gigabyte of spaces, in one gzip member."""
    squeeze = zlib.compressobj(level=1, wbits=31)
    spaces = b" " * 10_000_000
    made = b"".join(squeeze.compress(spaces) for _ in range(100)) + squeeze.flush()
    assert len(made) < 5_000_000
    return made


def test_500_clients_that_send_half_a_request_hold_nothing_up(api: Service) -> None:
    halves = [
        b"GET /health HTTP/1.1\r\nHost: a\r\nX-Half: ",
        _head("Content-Length: 1000") + b'{"messages": ',
        _head("Transfer-Encoding: chunked") + b"5\r\n{",
        b"",
        b"\r\n",
    ]
    with _held(api, [halves[n % len(halves)] for n in range(500)]):
        began = time.monotonic()

        assert api.get("/health").status == 200
        assert api.send("a@example.com").status == 200
        assert time.monotonic() - began < 3


def test_half_a_request_is_not_waited_for_without_end(api: Service) -> None:
    with closing(api.socket()) as never_ends, closing(api.socket()) as drips:
        never_ends.sendall(_head("Content-Length: 1000") + b"{")
        drips.setblocking(False)

        def dripped_out() -> bool:
            try:
                drips.send(b"\r\n")
            except ConnectionError:
                return True
            return False

        with suppress(ConnectionResetError):
            assert never_ends.recv(100) == b""
        until(dripped_out, within_s=20)


def test_large_bodies_held_open_take_bounded_memory(serve: Callable[..., Service]) -> None:
    service = serve()
    (worker,) = service.workers()
    service.send("a@example.com")
    peak = Peak(worker)
    part = _head("Content-Length: 20000000") + b" " * 5_000_000
    with _held(service, [part] * 64):
        assert service.get("/health").status == 200
    assert peak.grown_bytes <= GROWTH_BYTES


ENDLESS = {
    "a line": (b"X: ", b"a" * 100_000),
    "lines": (b"", b"X: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n" * 2_000),
}


@pytest.mark.parametrize("kind", ENDLESS)
def test_headers_without_end_are_431_and_not_kept(api: Service, kind: str) -> None:
    (worker,) = api.workers()
    peak = Peak(worker)
    first, more = ENDLESS[kind]
    with closing(api.socket()) as client:
        client.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + first)
        for _ in range(300):
            client.sendall(more)
        assert client.recv(64).startswith(b"HTTP/1.1 431 ")
        with suppress(ConnectionResetError):
            while client.recv(65536):
                pass
    assert peak.grown_bytes <= 10_000_000


def test_trailers_without_end_are_cut_off(api: Service) -> None:
    with closing(api.socket()) as client:
        client.sendall(_head("Transfer-Encoding: chunked") + b"1\r\n{\r\n0\r\n")
        with pytest.raises(ConnectionError):
            client.sendall(ENDLESS["lines"][1] * 1_000)


def test_a_body_in_the_smallest_chunks_is_read(api: Service) -> None:
    body = b"".join(b"1\r\n%c\r\n" % byte for byte in GOOD.ljust(50_000))
    with closing(api.socket()) as client:
        client.sendall(_head("Transfer-Encoding: chunked") + body + b"0\r\n\r\n")
        assert client.recv(64).startswith(b"HTTP/1.1 200 ")


def test_one_connection_too_many_is_told_to_come_again(serve: Callable[..., Service]) -> None:
    """So is each one more; when some have gone all is well."""
    service = serve()
    _allow_many_files()
    with ExitStack() as stack:
        for _ in range(CONNECTIONS_A_WORKER):
            stack.enter_context(closing(service.socket()))
        assert service.get("/health").status == 503
    until(lambda: service.get("/health").status == 200)


def _allow_many_files() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@contextmanager
def _held(service: Service, beginnings: list[bytes]) -> Iterator[None]:
    """Connections on each of which only so much is sent."""
    with ExitStack() as stack:
        for beginning in beginnings:
            client = stack.enter_context(closing(service.socket()))
            with suppress(ConnectionError):  # some are told to come again, and cut off
                client.sendall(beginning)
        yield


def _head(*headers: str) -> bytes:
    lines = ["POST /v1/messages HTTP/1.1", "Host: localhost", "Content-Type: application/json"]
    return "\r\n".join([*lines, *headers, "", ""]).encode()


class Peak:
    """How much memory a process has taken at most since this was made, beyond what it had."""

    def __init__(self, pid: int) -> None:
        self._process = Path(f"/proc/{pid}")
        self._before = self._bytes("VmRSS")
        (self._process / "clear_refs").write_text("5")  # VmHWM anew, see proc(5)

    @property
    def grown_bytes(self) -> int:
        return self._bytes("VmHWM") - self._before

    def _bytes(self, name: str) -> int:
        (line,) = (
            line
            for line in (self._process / "status").read_text().splitlines()
            if line.startswith(name)
        )
        return int(line.split()[1]) * 1024
