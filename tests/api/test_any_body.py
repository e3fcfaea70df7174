"""Whatever the body: never an error of ours, never anything half stored."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.api.service import Service

MAX_EXAMPLES = 400

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
addresses = st.sampled_from(
    ["a@example.com", "b@example.com", "A@EXAMPLE.com", "ü@example.com", "x@bücher.example", "bad"]
)
texts = st.text(max_size=40) | st.sampled_from(["{{ name }}", "{{", "a\r\nb", "\x00", "Hello"])
recipients = st.fixed_dictionaries(
    {"email": addresses},
    optional={"name": texts, "data": st.dictionaries(st.just("name") | st.text(), anything)},
)
times = st.sampled_from(
    ["", "2024-01-01 09:00:00", "2024-02-30 09:00:00", "2999-01-01T00:00:00Z", "now"]
)
attachments = st.fixed_dictionaries(
    {"filename": texts, "content": st.sampled_from(["", "YQ==", "%", "YQ"])},
    optional={"content_type": texts, "content_id": texts},
)
OPTIONAL = {
    "topic_id": texts,
    "emails": st.lists(addresses, max_size=4),
    "recipients": st.lists(recipients, max_size=3),
    "content": texts,
    "text": texts,
    "from": addresses | texts,
    "reply_to": addresses | texts,
    "headers": st.dictionaries(texts | st.just("X-A"), texts, max_size=2),
    "tags": st.dictionaries(texts, texts, max_size=2),
    "attachments": st.lists(attachments, max_size=2),
    "lane": st.sampled_from(["interactive", "bulk", "fast"]),
    "track_opens": st.booleans(),
    "track_clicks": st.booleans(),
    "expires_at": times,
}


def or_anything(fields: dict[str, Any]) -> dict[str, Any]:
    """Each field as it should be, mostly, or anything."""
    return {name: good | good | good | anything for name, good in fields.items()}


messages = st.fixed_dictionaries({"subject": texts}, optional=OPTIONAL) | st.fixed_dictionaries(
    {}, optional=or_anything({"subject": texts, **OPTIONAL})
)
bodies = st.fixed_dictionaries(
    {"messages": st.lists(messages, max_size=3)},
    optional={
        "scheduled_at": times | anything,
        "on_error": st.sampled_from(["refuse", "skip"]),
        "transport": st.just("maildir") | texts,
    },
)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    service = Service(tmp_path_factory.mktemp("any-body"))
    yield service
    service.stop()


def recounted(service: Service) -> tuple[int, int]:
    """Mails the counters tell of, and mails there are."""
    with closing(service.store()) as store:
        counted, there, after = store.batches.queued(), 0, 0
        while page := store.mails.list(after=after, limit=1_000):
            there += len(page)
            after = page[-1].id
        return counted, there


def hold(service: Service, post: Callable[[], Any]) -> None:
    before, _ = recounted(service)
    answer = post()
    counted, there = recounted(service)

    assert answer.status in {200, 400, 422}, answer
    success = answer.json["success"] if answer.status == 200 else 0
    assert counted == there == before + success
    assert answer.status == 200 or answer.json["status"] == answer.status
    assert answer.status != 422 or answer.faults


@settings(
    max_examples=MAX_EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(body=bodies)
def test_any_well_formed_body(service: Service, body: dict[str, Any]) -> None:
    hold(service, lambda: service.post("/v1/messages", json.dumps(body).encode()))


@settings(max_examples=MAX_EXAMPLES, deadline=None)
@given(body=anything)
def test_any_json(service: Service, body: Any) -> None:
    hold(service, lambda: service.post("/v1/messages", json.dumps(body).encode()))


@settings(max_examples=MAX_EXAMPLES, deadline=None)
@given(body=st.binary(max_size=200))
def test_any_bytes(service: Service, body: bytes) -> None:
    hold(service, lambda: service.post("/v1/messages", body))
