"""Who is let in, and who is told to stay out."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest

from mailer.endpoints import Scope
from tests.api.service import JSON, Service

SECRET = "a secret of more than thirty-two bytes"
KEY = "an API key of more than thirty-two bytes"
LATER = int(time.time()) + 3600


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    service = Service(tmp_path_factory.mktemp("guarded"), {"JWT_SECRET": SECRET, "API_KEY": KEY})
    yield service
    service.stop()


def token(claims: dict[str, Any] | None = None, *, secret: str = SECRET, **header: Any) -> str:
    payload = {"sub": "shop", "exp": LATER} if claims is None else claims
    return jwt.encode(payload, secret, algorithm="HS256", headers=header)


def forged(header: dict[str, Any], payload: Any, *, sign: bool = True) -> str:
    """A token made by hand, signed with the right secret or not at all."""
    parts = [
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()
        for part in (header, payload)
    ]
    mac = hmac.digest(SECRET.encode(), ".".join(parts).encode(), hashlib.sha256) if sign else b""
    return ".".join([*parts, base64.urlsafe_b64encode(mac).rstrip(b"=").decode()])


HS256 = {"alg": "HS256", "typ": "JWT"}
GOOD = {"sub": "shop", "exp": LATER}


def bearer(value: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {value}"}


@pytest.mark.parametrize(
    "headers",
    [
        bearer(token()),
        {"Authorization": f"bearer  {token()}"},
        bearer(token({"sub": "shop", "exp": LATER, "scope": "send read"})),
        bearer(token({"sub": "shop", "exp": LATER, "scope": ["read"]})),
        bearer(forged(HS256, GOOD)),
        {"X-API-KEY": KEY},
    ],
)
def test_good_credentials_are_let_in(guarded: Service, headers: dict[str, str]) -> None:
    assert guarded.request("GET", "/v1/topics", headers=headers).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer "},
        {"Authorization": token()},
        {"Authorization": f"Basic {token()}"},
        {"Authorization": f"Bearer {token()} {token()}"},
        bearer("a.b.c"),
        bearer("..."),
        bearer("\xff\xfe"),
        bearer("x" * 8000),
        bearer(token(secret="another secret of more than 32 bytes")),
        bearer(forged(HS256, GOOD, sign=False)),
        bearer(token()[:-4] + "AAAA"),
        *[bearer(forged({"alg": alg, "typ": "JWT"}, GOOD, sign=signed))
          for alg in ("none", "None", "NONE", "nOnE", "", "HS512", "RS256", "ES256", "hs256")
          for signed in (False, True)],
        bearer(forged({"alg": None}, GOOD)),
        bearer(forged({"alg": ["HS256"]}, GOOD)),
        bearer(forged({}, GOOD)),
        bearer(forged({**HS256, "crit": ["exp"], "exp": 1}, GOOD)),
        bearer(forged({**HS256, "crit": ["x"], "x": 1}, GOOD)),
        bearer(forged({**HS256, "crit": []}, GOOD)),
        bearer(forged({**HS256, "kid": 7}, GOOD)),
        bearer(forged({**HS256, "b64": False, "crit": ["b64"]}, GOOD)),
        bearer(token({"sub": "shop", "exp": int(time.time()) - 40})),
        bearer(token({"sub": "shop"})),
        bearer(token({"exp": LATER})),
        *[bearer(forged(HS256, {"sub": "shop", "exp": exp}))
          for exp in (None, "", "soon", str(LATER), True, float("nan"), float("inf"),
                      -1, 0, [LATER], {"a": LATER})],
        *[bearer(forged(HS256, {"sub": sub, "exp": LATER}))
          for sub in (None, "", 7, True, ["shop"], {"a": 1}, "\ud800", "x" * 256)],
        bearer(forged(HS256, {**GOOD, "nbf": LATER})),
        bearer(forged(HS256, {**GOOD, "iat": LATER})),
        bearer(forged(HS256, {**GOOD, "iat": "x"})),
        bearer(forged(HS256, {**GOOD, "aud": "another"})),
        bearer(forged(HS256, {**GOOD, "scope": 7})),
        bearer(forged(HS256, {**GOOD, "scope": None})),
        bearer(forged(HS256, [GOOD])),
        bearer(forged(HS256, "text")),
        bearer(forged(HS256, None)),
        {"X-API-KEY": ""},
        {"X-API-KEY": KEY[:-1]},
        {"X-API-KEY": KEY + "x"},
        {"X-API-KEY": "ü" * 40},
        {**bearer(token()), "X-API-KEY": "wrong"},
        {"Cookie": f"token={token()}"},
    ],
)  # fmt: skip
def test_everything_else_is_401(guarded: Service, headers: dict[str, str]) -> None:
    answer = guarded.request("GET", "/v1/topics", headers=headers)

    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert SECRET.encode() not in answer.body


def test_clocks_may_differ_by_half_a_minute(guarded: Service) -> None:
    def status(ago_s: int) -> int:
        made = token({"sub": "shop", "exp": int(time.time()) - ago_s})
        return guarded.request("GET", "/v1/topics", headers=bearer(made)).status

    assert (status(20), status(40)) == (200, 401)


def test_a_token_in_the_query_does_not_count(guarded: Service) -> None:
    assert guarded.get(f"/v1/events/counts/sent?access_token={token()}").status == 401


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("POST", "/v1/messages", "send"),
        ("PATCH", "/v1/mails/ab-0", "send"),
        ("DELETE", "/v1/mails/ab-0", "send"),
        ("DELETE", "/v1/batches/ab", "send"),
        ("DELETE", "/v1/topics/a", "send"),
        ("GET", "/v1/mails", "read"),
        ("HEAD", "/v1/mails", "read"),
        ("GET", "/v1/mails/ab-0", "read"),
        ("GET", "/v1/batches/ab", "read"),
        ("GET", "/v1/topics", "read"),
        ("GET", "/v1/topics/a", "read"),
        ("GET", "/v1/suppressions", "read"),
        ("GET", "/v1/events", "read"),
        ("GET", "/v1/events/counts/sent", "read"),
        ("POST", "/v1/suppressions", "admin"),
        ("DELETE", "/v1/suppressions", "admin"),
        ("POST", "/v1/topics/a/pause", "admin"),
        ("POST", "/v1/topics/a/resume", "admin"),
        ("POST", "/v1/topics/a/retry", "admin"),
        ("GET", "/metrics", "metrics"),
        ("HEAD", "/metrics", "metrics"),
    ],
)
def test_each_operation_needs_its_scope(
    guarded: Service, method: str, path: str, scope: str
) -> None:
    others = " ".join(set(Scope) - {scope})

    def status(scopes: str) -> int:
        made = token({**GOOD, "scope": scopes})
        return guarded.request(method, path, b"{}", {**JSON, **bearer(made)}).status

    assert status(others) == 403
    assert status("") == 403
    assert status(scope) not in {401, 403}


def test_the_body_of_a_stranger_is_not_read(guarded: Service) -> None:
    assert guarded.post("/v1/messages", b"[" * 1000).status == 401


@pytest.mark.parametrize(
    "path", ["/health", "/ready", "/openapi.json", "/v1/events/open?request_id=x"]
)
def test_some_paths_are_open_to_all(guarded: Service, path: str) -> None:
    assert guarded.get(path).status == 200


def test_keys_of_different_callers_are_apart(guarded: Service) -> None:
    body = {"messages": [{"emails": ["a@example.com"], "subject": "s", "content": "c"}]}
    callers = [bearer(token()), bearer(token({**GOOD, "sub": "api-key"})), {"X-API-KEY": KEY}]

    batches = {
        guarded.post("/v1/messages", body, {**caller, "Idempotency-Key": "one"}).json["batch_id"]
        for caller in callers
    }

    assert len(batches) == 3


def test_a_short_secret_refuses_the_start_and_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"JWT_SECRET.*openssl rand"):
        Service(tmp_path, {"JWT_SECRET": "tiny"})


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Forwarded-For": "192.0.2.1"},
        {"X-Forwarded-For": "127.0.0.1"},
        {"Forwarded": "for=192.0.2.1"},
        {"X-Real-IP": "192.0.2.1"},
        {"Host": "mailer.example.com"},
        {"Host": "rebound.example.com:3000"},
        {"Origin": "https://evil.example.com"},
        {"Origin": "null"},
    ],
)
def test_without_credentials_only_this_machine_is_served(
    api: Service, headers: dict[str, str]
) -> None:
    answer = api.request("GET", "/v1/topics", headers=headers)

    assert answer.status == 403
    assert "ALLOW_UNAUTHENTICATED" in answer.json["detail"]


def test_without_credentials_other_addresses_are_refused(
    serve: Callable[..., Service], other_address: str
) -> None:
    service = serve(bind="0.0.0.0")

    assert service.get("/v1/topics").status == 200
    assert service.through(other_address).get("/v1/topics").status == 403
    assert service.through(other_address).get("/health").status == 200


def test_told_so_in_so_many_words_everybody_is_served(
    serve: Callable[..., Service], other_address: str
) -> None:
    service = serve(bind="0.0.0.0", ALLOW_UNAUTHENTICATED="1")

    assert service.through(other_address).get("/v1/topics").status == 200
    forwarded = {"X-Forwarded-For": "192.0.2.1"}
    assert service.request("GET", "/v1/topics", headers=forwarded).status == 200


def test_a_caller_that_calls_too_often_is_told_when_to_come_back(
    serve: Callable[..., Service],
) -> None:
    service = serve(JWT_SECRET=SECRET, CALLER_RATE="5")
    other = bearer(token({"sub": "other", "exp": LATER}))
    answers = [service.get("/v1/topics", **bearer(token())) for _ in range(20)]
    (refused,) = {answer.status for answer in answers} - {200}
    assert refused == 429
    assert 5 <= [answer.status for answer in answers].count(200) < 20
    assert answers[-1].headers["Retry-After"] == "1"
    assert "5 requests a second" in answers[-1].json["detail"]
    assert service.get("/v1/topics", **other).status == 200
    assert [service.get("/health").status for _ in range(20)] == [200] * 20


@pytest.mark.parametrize(
    ("trusted", "told", "seen"),
    [
        ("", "203.0.113.9", "127.0.0.1"),
        ("127.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("127.0.0.0/8,::1", "198.51.100.1, 203.0.113.9", "203.0.113.9"),
        ("10.0.0.0/8", "203.0.113.9", "127.0.0.1"),
    ],
)
def test_only_a_trusted_proxy_says_where_a_caller_comes_from(
    serve: Callable[..., Service], trusted: str, told: str, seen: str
) -> None:
    """What the caller itself put there stands before what the proxy has added."""
    service = serve(JWT_SECRET=SECRET, TRUSTED_PROXIES=trusted)
    assert service.get("/v1/topics", **{"X-Forwarded-For": told}).status == 401
    assert f" client={seen} " in service.log


def test_a_proxy_s_word_does_not_make_a_stranger_local(serve: Callable[..., Service]) -> None:
    service = serve(TRUSTED_PROXIES="127.0.0.1")
    assert service.get("/v1/topics").status == 200
    assert service.get("/v1/topics", **{"X-Forwarded-For": "127.0.0.1"}).status == 403
