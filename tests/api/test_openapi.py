"""`/openapi.json` says what is served: every route is called, every answer held against it."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import jsonschema
import pytest

from mailer import tokens
from tests.api.service import JSON, Answer, Service


@pytest.fixture(scope="module")
def document(api: Service) -> dict[str, Any]:
    answer: dict[str, Any] = api.get("/openapi.json").json
    return answer


def calls(service: Service) -> list[tuple[str, str, str, bytes | None]]:
    """(method, documented path, path called, body): one good call for each operation."""
    message = b'{"messages":[{"emails":["a@example.com"],"topic_id":"doc/umented","subject":"s",'
    message += b'"content":"c"}],"scheduled_at":""}'
    sent = service.request("POST", "/v1/messages", message, JSON).json
    mail, batch = sent["messages"][0]["request_ids"][0], sent["batch_id"]
    with closing(service.store()) as store:
        signing_key = store.signing_key()
    click = tokens.sign_click(signing_key, mail, "https://example.com/")
    leave = tokens.sign_unsubscribe(signing_key, mail, "a@example.com", "doc")
    made = service.request("POST", "/v1/webhooks", b'{"url":"https://doc.example.com/"}', JSON).json
    hook = f"/v1/webhooks/{made['endpoint_id']}"
    return [
        ("GET", "/health", "/health", None),
        ("GET", "/ready", "/ready", None),
        ("GET", "/metrics", "/metrics", None),
        ("GET", "/openapi.json", "/openapi.json", None),
        ("POST", "/v1/messages", "/v1/messages", message),
        ("GET", "/v1/mails", "/v1/mails?topic_id=doc/umented", None),
        ("GET", "/v1/mails/{request_id}", f"/v1/mails/{mail}", None),
        ("PATCH", "/v1/mails/{request_id}", f"/v1/mails/{mail}", b'{"scheduled_at":""}'),
        ("GET", "/v1/batches/{batch_id}", f"/v1/batches/{batch}", None),
        ("GET", "/v1/topics", "/v1/topics", None),
        ("GET", "/v1/topics/{topic_id}", "/v1/topics/doc/umented", None),
        ("POST", "/v1/topics/{topic_id}/{action}", "/v1/topics/doc/umented/pause", None),
        ("POST", "/v1/topics/{topic_id}/{action}", "/v1/topics/doc/umented/retry", None),
        ("POST", "/v1/topics/{topic_id}/{action}", "/v1/topics/doc/umented/resume", None),
        ("POST", "/v1/suppressions", "/v1/suppressions", b'{"email":"doc@example.com"}'),
        ("GET", "/v1/suppressions", "/v1/suppressions", None),
        ("DELETE", "/v1/suppressions", "/v1/suppressions?email=doc@example.com", None),
        ("GET", "/v1/events", "/v1/events?topic_id=doc/umented", None),
        ("GET", "/v1/events/counts/sent", "/v1/events/counts/sent", None),
        ("GET", "/v1/events/open", "/v1/events/open?request_id=x", None),
        ("GET", "/v1/events/click", f"/v1/events/click?token={click}", None),
        ("POST", "/v1/events/results", "/v1/events/results", b"{}"),
        ("GET", "/v1/unsubscribe", f"/v1/unsubscribe?token={leave}", None),
        ("POST", "/v1/unsubscribe", f"/v1/unsubscribe?token={leave}", None),
        ("GET", "/v1/webhooks", "/v1/webhooks", None),
        ("GET", "/v1/webhooks/{endpoint_id}", hook, None),
        ("PATCH", "/v1/webhooks/{endpoint_id}", hook, b'{"rotate_secret":true}'),
        ("DELETE", "/v1/webhooks/{endpoint_id}", hook, None),
        ("POST", "/v1/webhooks", "/v1/webhooks", b'{"url":"https://doc.example.com/"}'),
        ("DELETE", "/v1/mails/{request_id}", f"/v1/mails/{mail}", None),
        ("DELETE", "/v1/batches/{batch_id}", f"/v1/batches/{batch}", None),
        ("DELETE", "/v1/topics/{topic_id}", "/v1/topics/doc/umented", None),
    ]


def check(document: dict[str, Any], operation: dict[str, Any], answer: Answer) -> None:
    described = operation["responses"][str(answer.status)]
    contents = described.get("content", {})
    if not contents:
        return
    kind = answer.headers["Content-Type"].partition(";")[0]
    assert kind in contents
    schema = contents[kind].get("schema")
    if schema:
        whole = {**schema, "components": document["components"]}
        jsonschema.Draft202012Validator(whole).validate(answer.json)


def test_every_operation_answers_what_is_documented(api: Service, document: dict[str, Any]) -> None:
    called = set()
    for method, path, real_path, body in calls(api):
        answer = api.request(method, real_path, body, JSON if body else {})

        assert answer.status in {200, 302} or path == "/v1/events/results", (path, answer)
        check(document, document["paths"][path][method.lower()], answer)
        called.add((path, method.lower()))

    documented = {(path, method) for path, item in document["paths"].items() for method in item}
    assert called == documented


def test_every_problem_answers_what_is_documented(api: Service, document: dict[str, Any]) -> None:
    for path, item in document["paths"].items():
        if path in {"/health", "/ready", "/metrics", "/openapi.json", "/v1/events/open"}:
            continue
        for method, operation in item.items():
            real_path = path.replace("{topic_id}", "nix").replace("{action}", "explode")
            for name in ("{request_id}", "{batch_id}", "{endpoint_id}"):
                real_path = real_path.replace(name, "nix")
            answer = api.request(method.upper(), f"{real_path}?hours=x&limit=x", b"[]", JSON)

            assert answer.status >= 400, (method, path)
            check(document, operation, answer)


def test_the_document_is_openapi_3_1(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1.")
    ids = [op["operationId"] for item in document["paths"].values() for op in item.values()]
    assert len(ids) == len(set(ids))
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


def test_the_document_tells_how_to_authenticate(document: dict[str, Any]) -> None:
    secured = document["paths"]["/v1/messages"]["post"]
    assert {"token": []} in secured["security"]
    assert "`send`" in secured["description"]
    assert "security" not in document["paths"]["/health"]["get"]
