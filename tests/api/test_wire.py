"""What comes over the wire and is not as it should be: encodings, sizes, slowness, paths."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from contextlib import closing

import pytest

from tests.api.service import JSON, Service

GOOD = json.dumps(
    {"messages": [{"emails": ["a@example.com"], "subject": "s", "content": "c"}]}
).encode()


def _with_subject(literal: bytes) -> bytes:
    return GOOD.replace(b'"s"', literal)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"hello",
        b"{",
        GOOD + b"x",
        _with_subject(b"NaN"),
        _with_subject(b"-Infinity"),
        _with_subject(b"1e400"),
        _with_subject(b"9" * 5000),
        _with_subject(rb'"\ud800"'),
        _with_subject(rb'"\udc00\ud800"'),
        _with_subject(b'"\xff"'),
        _with_subject(b'"\xed\xa0\x80"'),
        _with_subject(b'"a\x01b"'),
        b"\xef\xbb\xbf" + GOOD,
        GOOD.decode().encode("utf-16"),
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        b'{"messages":' + b"[" * 100_000,
        GOOD.replace(b'{"messages"', b'{"messages":[],"messages"'),
        GOOD.replace(b'"subject"', b'"subject":"t","subject"'),
    ],
)
def test_what_is_no_json_is_400(api: Service, body: bytes) -> None:
    answer = api.post("/v1/messages", body)

    assert answer.status == 400
    assert answer.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize(
    "body",
    [
        b"null",
        b"[]",
        b"7",
        b'""',
        b"{}",
        b'{"messages": null}',
        b'{"messages": {}}',
        b'{"messages": [null]}',
        b'{"messages": [[]]}',
        b'{"messages": []}',
        _with_subject(b"18446744073709551616"),
        _with_subject(b"null"),
        _with_subject(b"[]"),
        _with_subject(rb'"\u0000"'),
        GOOD.replace(b'"a@example.com"', b"null"),
        GOOD.replace(b'["a@example.com"]', b'"a@example.com"'),
        GOOD.replace(b'["a@example.com"]', b'{"0":"a@example.com"}'),
        GOOD.replace(b'"c"', b'"c","text":{}'),
        GOOD.replace(b'"c"}', b'"c","recipients":[{"email":"b@example.com","data":'
                     + b'{"a":' * 40 + b"1" + b"}" * 40 + b"}]}"),
    ],
)  # fmt: skip
def test_json_that_is_wrong_is_422_and_names_where(api: Service, body: bytes) -> None:
    answer = api.post("/v1/messages", body)

    assert answer.status == 422, answer.body
    assert answer.faults


def test_the_control_is_accepted(api: Service) -> None:
    assert api.post("/v1/messages", GOOD).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "application/json; charset=utf-16"},
        {"Content-Type": "application/json; charset=latin-1"},
        {"Content-Type": ""},
        {**JSON, "Content-Encoding": "gzip"},
        {**JSON, "Content-Encoding": "br, gzip"},
    ],
)
def test_other_types_and_encodings_are_415(api: Service, headers: dict[str, str]) -> None:
    assert api.request("POST", "/v1/messages", GOOD, headers).status == 415


@pytest.mark.parametrize("kind", ["application/json;charset=UTF-8", "Application/JSON"])
def test_spellings_of_json_are_taken(api: Service, kind: str) -> None:
    assert api.request("POST", "/v1/messages", GOOD, {"Content-Type": kind}).status == 200


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
        b"GET /health HTTP/9.9\r\n\r\n",
        b"POST /v1/messages HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST /v1/messages HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 200_000 + b"\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: a\r\nX-Request-ID: a\x00b\r\n\r\n",
        b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03",
    ],
)
def test_what_is_no_http_never_is_our_error(api: Service, request_bytes: bytes) -> None:
    with closing(api.socket()) as client:
        client.sendall(request_bytes)
        client.shutdown(socket.SHUT_WR)
        answer = client.recv(4096)

    assert answer == b"" or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.1 200")), answer
    assert api.get("/health").status == 200


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/topics/%ff", 400),
        ("/v1/topics/%ED%A0%80", 400),
        ("/v1/topics/%C0%AF", 400),
        ("/v1/topics/%00", 404),
        ("/v1/topics/" + "x" * 4000, 404),
        ("/v1/topics/", 404),
        ("/v1/mails/nothing", 404),
        ("/v1/mails/" + "9" * 200 + "-" + "9" * 200, 404),
        ("/v1/mails/a/b", 404),
        ("/v1/batches/%2e%2e", 404),
        ("/v1/nothing", 404),
        ("/", 404),
        ("/../../etc/passwd", 404),
    ],
)
def test_odd_paths_are_the_clients_error(api: Service, path: str, status: int) -> None:
    answer = api.get(path)

    assert answer.status == status
    assert answer.json["status"] == status


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/messages", {"POST"}),
        ("PUT", "/v1/topics/a", {"GET", "HEAD", "DELETE", "POST"}),
        ("POST", "/health", {"GET", "HEAD"}),
        ("TRACE", "/health", {"GET", "HEAD"}),
    ],
)
def test_other_methods_are_405_and_say_which(
    api: Service, method: str, path: str, allowed: set[str]
) -> None:
    answer = api.request(method, path)

    assert answer.status == 405
    assert set(answer.headers["Allow"].split(", ")) == allowed | {"OPTIONS"}
    assert answer.json["title"] == "Method Not Allowed"


def test_head_and_options(api: Service) -> None:
    head, options = api.request("HEAD", "/health"), api.request("OPTIONS", "/v1/messages")

    assert (head.status, head.body, head.headers["Content-Length"]) == (200, b"", "15")
    assert options.status == 200
    assert "POST" in options.headers["Allow"]


@pytest.mark.parametrize(
    "query", ["1_0", "%D9%A1", "%201", "1&hours=2", "0", "8761", "", "-1", "1e1", "9" * 400, "%ff"]
)
def test_hours_are_a_plain_whole_number_in_range(api: Service, query: str) -> None:
    answer = api.get(f"/v1/events/counts/sent?hours={query}")

    assert answer.status == 422
    assert answer.faults[0][0] == "hours"


def test_hours_in_range_are_counted(serve: Callable[..., Service]) -> None:
    service = serve()
    for query in ("", "?hours=1", "?hours=8760"):
        assert service.get(f"/v1/events/counts/sent{query}").json == {
            "count": 0,
            "max_24h": None,
            "remaining_24h": None,
            "max_per_second": None,
        }


def test_unknown_parameters_are_named(api: Service) -> None:
    assert api.get("/v1/mails?topicid=a&state=odd&limit=0").faults == [
        ("topicid", "parameter_unknown"),
        ("state", "parameter_invalid"),
        ("limit", "parameter_invalid"),
    ]
