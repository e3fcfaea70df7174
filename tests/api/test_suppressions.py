"""The list of addresses not to be written to."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.api.service import Service


def test_added_looked_at_and_removed(serve: Callable[..., Service]) -> None:
    service = serve()
    entry = {"email": "Ann@Example.com", "detail": "asked by phone"}

    assert service.post("/v1/suppressions", entry).json["changed"] == 1
    assert service.post("/v1/suppressions", entry).json["changed"] == 0
    service.post("/v1/suppressions", {"email": "ann@example.com", "scope": "news"})
    (everywhere, news) = service.get("/v1/suppressions?email=ANN@example.com").json["suppressions"]

    assert (everywhere["email"], everywhere["scope"]) == ("ann@example.com", "")
    assert (everywhere["reason"], everywhere["detail"]) == ("manual", "asked by phone")
    assert news["scope"] == "news"
    removed = service.request("DELETE", "/v1/suppressions?email=ann@example.com&scope=").json
    assert removed["changed"] == 1
    assert service.request("DELETE", "/v1/suppressions?email=ann@example.com").json["changed"] == 1
    assert service.get("/v1/suppressions").json == {"suppressions": [], "next": None}


def test_pages_follow_each_other(serve: Callable[..., Service]) -> None:
    service = serve()
    for n in range(5):
        service.post("/v1/suppressions", {"email": f"a{n // 2}@example.com", "scope": f"s {n % 2}"})
    seen, after = [], ""
    while after is not None:
        answer = service.get(f"/v1/suppressions?limit=2&after={after.replace(' ', '%20')}").json
        seen += [(entry["email"], entry["scope"]) for entry in answer["suppressions"]]
        after = answer["next"]

    assert seen == [(f"a{n // 2}@example.com", f"s {n % 2}") for n in range(5)]


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ({}, ("email", "missing")),
        ({"email": "bad"}, ("email", "address_invalid")),
        ({"email": "a@example.com", "scope": "a/b"}, ("scope", "scope_invalid")),
        ({"email": "a@example.com", "scope": 7}, ("scope", "wrong_type")),
        ({"email": "a@example.com", "detail": "x" * 1001}, ("detail", "too_long")),
        ({"email": "a@example.com", "reason": "x"}, ("reason", "unknown_field")),
    ],
)
def test_faults_are_named(api: Service, body: dict[str, object], fault: tuple[str, str]) -> None:
    answer = api.post("/v1/suppressions", body)

    assert answer.status == 422
    assert fault in answer.faults


def test_an_address_is_required_to_remove_one(api: Service) -> None:
    assert api.request("DELETE", "/v1/suppressions").faults == [("email", "missing")]
    assert api.request("DELETE", "/v1/suppressions?email=x").status == 422
