"""Topics: counters, and steering all of their mail."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from mailer.vocabulary import OutcomeKind, State
from tests.api.service import Service
from tests.api.steps import claim_all, record


def test_a_new_topic_has_every_word_of_the_reference(api: Service) -> None:
    api.send("a@example.com", topic_id="words")

    topic = api.get("/v1/topics/words").json

    assert topic["request_counts"] == {
        "Created": 1,
        "Processed": 0,
        "Sent": 0,
        "Failed": 0,
        "Stopped": 0,
    }
    assert topic["result_counts"] == {"Delivery": 0, "Bounce": 0, "Complaint": 0, "Open": 0}
    assert topic["opens"] == {"unique": 0, "total": 0, "automated": 0}
    assert set(topic["states"]) == set(State)
    assert (topic["total"], topic["success"], topic["failure"]) == (1, 0, 0)
    assert topic["last_sent_at"] is None


def test_counters_follow_what_becomes_of_mail(serve: Callable[..., Service]) -> None:
    service = serve()
    service.send("a@example.com", "b@example.com", "c@example.com", topic_id="t")
    first, second, third = claim_all(service)
    assert service.get("/v1/topics/t").json["request_counts"]["Processed"] == 3

    record(service, [first, second], OutcomeKind.ACCEPTED)
    record(service, [third], OutcomeKind.REJECTED)

    topic = service.get("/v1/topics/t").json
    assert topic["request_counts"]["Sent"] == topic["success"] == 2
    assert topic["request_counts"]["Failed"] == topic["failure"] == 1
    assert topic["last_sent_at"] is not None
    assert service.get("/v1/events/counts/sent").json["count"] == 2
    mail = service.get(f"/v1/mails/{third.request_id}").json
    assert [attempt["outcome"] for attempt in mail["attempts"]] == ["rejected"]

    assert service.request("POST", "/v1/topics/t/retry").json["retried"] == 1
    assert service.get("/v1/topics/t").json["request_counts"]["Created"] == 1


@pytest.mark.parametrize("topic_id", ["a", "a/b", "a/pause", "ü/é", "50%", "a b", "a+b", "a?b#c"])
@pytest.mark.parametrize("slash", ["/", "%2F"])
def test_every_topic_is_reached_by_its_path(api: Service, topic_id: str, slash: str) -> None:
    from urllib.parse import quote

    name = f"path/{topic_id}"
    path = slash.join(quote(part, safe="") for part in name.split("/"))
    api.send("a@example.com", topic_id=name)

    assert api.get(f"/v1/topics/{path}").json["topic_id"] == name
    assert api.request("POST", f"/v1/topics/{path}/pause").json["paused"] is True
    assert api.get(f"/v1/topics/{path}").json["paused"] is True
    assert api.request("POST", f"/v1/topics/{path}/resume").json["paused"] is False
    assert api.request("DELETE", f"/v1/topics/{path}").json["status"] == "ok"


def test_topics_are_listed_in_pages(serve: Callable[..., Service]) -> None:
    service = serve()
    for name in ("c", "a", "b/1", "b"):
        service.send("a@example.com", topic_id=name)
    service.send("a@example.com")

    first = service.get("/v1/topics?limit=3").json
    second = service.get(f"/v1/topics?limit=3&after={first['next']}").json

    assert [topic["topic_id"] for topic in first["topics"]] == ["a", "b", "b/1"]
    assert [topic["topic_id"] for topic in second["topics"]] == ["c"]
    assert second["next"] is None


def test_delete_says_what_was_cancelled_in_flight_and_sent(serve: Callable[..., Service]) -> None:
    service = serve()
    service.send("sent@example.com", topic_id="t")
    record(service, claim_all(service), OutcomeKind.ACCEPTED)
    service.send("in-flight@example.com", topic_id="t")
    claim_all(service)
    service.send(*(f"waiting{n}@example.com" for n in range(5_000)), topic_id="t")

    answer = service.request("DELETE", "/v1/topics/t")

    assert answer.json == {"status": "ok", "cancelled": 5_000, "in_flight": 1, "already_sent": 1}
    assert claim_all(service) == []
    assert service.get("/v1/topics/t").json["request_counts"]["Stopped"] == 5_000


def test_paused_mail_is_not_claimed_until_resumed(serve: Callable[..., Service]) -> None:
    service = serve()
    service.send("a@example.com", "b@example.com", topic_id="t")

    service.request("POST", "/v1/topics/t/pause")
    assert claim_all(service) == []
    service.request("POST", "/v1/topics/t/resume")

    assert len(claim_all(service)) == 2


def test_cancelling_large_topics_leaves_others_in_peace(serve: Callable[..., Service]) -> None:
    service = serve()
    emails = [f"user{n}@example.com" for n in range(10_000)]
    for _ in range(3):
        service.send(*emails, topic_id="large")
    cancelling = threading.Thread(target=service.request, args=("DELETE", "/v1/topics/large"))

    cancelling.start()
    statuses = {service.send("a@example.com", topic_id="other").status for _ in range(20)}
    cancelling.join()

    assert statuses == {200}
    assert service.get("/v1/topics/large").json["request_counts"]["Stopped"] == 30_000


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/topics/never-seen"),
        ("DELETE", "/v1/topics/never-seen"),
        ("POST", "/v1/topics/never-seen/pause"),
        ("POST", "/v1/topics/never-seen/resume"),
        ("POST", "/v1/topics/never-seen/retry"),
        ("POST", "/v1/topics/never-seen/explode"),
        ("POST", "/v1/topics/never-seen"),
        ("DELETE", "/v1/topics/"),
        ("POST", "/v1/topics//pause"),
    ],
)
def test_a_topic_never_seen_is_404(api: Service, method: str, path: str) -> None:
    assert api.request(method, path).status == 404
