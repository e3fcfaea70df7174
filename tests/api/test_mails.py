"""Looking at mails and batches, cancelling and rescheduling them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from mailer.vocabulary import State
from tests.api.service import JSON, Service
from tests.api.steps import claim_all


def in_hours(hours: float) -> str:
    return (datetime.now().astimezone() + timedelta(hours=hours)).isoformat(timespec="seconds")


def post_scheduled(service: Service, *emails: str, **fields: Any) -> list[str]:
    message = {"emails": list(emails), "subject": "s", "content": "c", **fields}
    body = {"messages": [message], "scheduled_at": in_hours(1)}
    ids: list[str] = service.post("/v1/messages", body).json["messages"][0]["request_ids"]
    return ids


def test_a_mail_tells_its_history(api: Service) -> None:
    (request_id,) = api.send("a@example.com", topic_id="history").json["messages"][0]["request_ids"]

    mail = api.get(f"/v1/mails/{request_id}").json

    assert mail["request_id"] == request_id
    assert mail["state"] == "pending"
    assert mail["waits_for"] == "turn"
    assert mail["attempts"] == []
    assert [event["type"] for event in mail["events"]] == ["accepted"]
    assert datetime.fromisoformat(mail["accepted_at"]).tzinfo is not None


def test_mails_are_found_by_what_they_have_in_common(api: Service) -> None:
    sent = api.send("found@example.com", "other@example.com", topic_id="finding").json
    first, second = sent["messages"][0]["request_ids"]
    batch = sent["batch_id"]

    def found(query: str) -> list[str]:
        return [mail["request_id"] for mail in api.get(f"/v1/mails?{query}").json["mails"]]

    assert found("topic_id=finding") == [first, second]
    assert found("recipient=found@EXAMPLE.com") == [first]
    assert found(f"batch_id={batch}") == [first, second]
    assert found(f"batch_id={batch}&recipient=other%40example.com&state=pending") == [second]
    assert found(f"batch_id={batch}&topic_id=another") == []
    assert found("topic_id=finding&state=sent") == []
    assert found("recipient=nobody@example.com") == []


def test_pages_follow_each_other_without_gaps(api: Service) -> None:
    sent = api.send(*(f"page{n}@example.com" for n in range(25)), topic_id="pages").json
    pages, after = [], ""
    while after is not None:
        answer = api.get(f"/v1/mails?topic_id=pages&limit=10&after={after}").json
        pages.append([mail["request_id"] for mail in answer["mails"]])
        after = answer["next"]

    assert [len(page) for page in pages] == [10, 10, 5]
    assert [request_id for page in pages for request_id in page] == sent["messages"][0][
        "request_ids"
    ]
    assert api.get("/v1/mails?after=nothing").faults == [("after", "parameter_invalid")]


def test_pages_of_one_topic_within_a_batch_have_no_gaps(api: Service) -> None:
    messages = [
        {"topic_id": f"mixed-{n % 2}", "emails": ["a@example.com"], "subject": "s", "content": "c"}
        for n in range(12)
    ]
    sent = api.post("/v1/messages", {"messages": messages}).json
    odd = [message["request_ids"][0] for message in sent["messages"][1::2]]

    query = f"batch_id={sent['batch_id']}&topic_id=mixed-1&limit=4"
    first = api.get(f"/v1/mails?{query}").json
    second = api.get(f"/v1/mails?{query}&after={first['next']}").json

    assert [mail["request_id"] for mail in first["mails"] + second["mails"]] == odd


def test_a_waiting_mail_is_cancelled_once_and_for_all(api: Service) -> None:
    (request_id,) = post_scheduled(api, "a@example.com", topic_id="cancel-one")

    answers = [api.request("DELETE", f"/v1/mails/{request_id}").json for _ in range(2)]

    for answer in answers:
        assert (answer["status"], answer["cancelled"], answer["in_flight"]) == ("ok", 1, 0)
        assert answer["mail"]["state"] == "cancelled"
    assert api.get("/v1/topics/cancel-one").json["request_counts"]["Stopped"] == 1


def test_a_mail_in_flight_says_so(serve: Callable[..., Service]) -> None:
    service = serve()
    (request_id,) = service.send("a@example.com").json["messages"][0]["request_ids"]
    claim_all(service)

    answer = service.request("DELETE", f"/v1/mails/{request_id}").json

    assert (answer["cancelled"], answer["in_flight"]) == (0, 1)


def test_a_mail_gets_another_time(api: Service) -> None:
    (request_id,) = post_scheduled(api, "a@example.com")
    later = in_hours(5)

    answer = api.request("PATCH", f"/v1/mails/{request_id}", f'{{"scheduled_at":"{later}"}}', JSON)

    assert answer.status == 200
    assert datetime.fromisoformat(answer.json["due_at"]) == datetime.fromisoformat(later)
    events = [event["type"] for event in api.get(f"/v1/mails/{request_id}").json["events"]]
    assert events == ["accepted", "rescheduled"]


@pytest.mark.parametrize("when", ["", "2001-01-01 00:00:00"])
def test_no_time_or_a_past_one_means_now(api: Service, when: str) -> None:
    (request_id,) = post_scheduled(api, "a@example.com")

    answer = api.request("PATCH", f"/v1/mails/{request_id}", f'{{"scheduled_at":"{when}"}}', JSON)

    assert answer.json["waits_for"] == "turn"


def test_what_is_no_longer_pending_conflicts(api: Service) -> None:
    (request_id,) = post_scheduled(api, "a@example.com")
    api.request("DELETE", f"/v1/mails/{request_id}")

    answer = api.request("PATCH", f"/v1/mails/{request_id}", b'{"scheduled_at":""}', JSON)

    assert answer.status == 409
    assert "cancelled" in answer.json["detail"]


@pytest.mark.parametrize("body", [b"{}", b'{"scheduled_at":null}', b'{"scheduled_at":"soon"}'])
def test_a_time_is_required(api: Service, body: bytes) -> None:
    (request_id,) = post_scheduled(api, "a@example.com")

    answer = api.request("PATCH", f"/v1/mails/{request_id}", body, JSON)

    assert answer.status == 422
    assert answer.faults[0][0] == "scheduled_at"


def test_a_batch_is_counted_and_cancelled_whole(api: Service) -> None:
    request_ids = post_scheduled(api, "a@example.com", "b@example.com", "c@example.com")
    batch_id = request_ids[0].partition("-")[0]
    api.request("DELETE", f"/v1/mails/{request_ids[0]}")

    before = api.get(f"/v1/batches/{batch_id}").json
    cancelled = api.request("DELETE", f"/v1/batches/{batch_id}").json

    assert before["total"] == 3
    assert set(before["states"]) == set(State)
    assert (before["states"]["pending"], before["states"]["cancelled"]) == (2, 1)
    assert cancelled == {"status": "ok", "cancelled": 2, "in_flight": 0, "finished": 1}
    assert api.get(f"/v1/batches/{batch_id}").json["states"]["cancelled"] == 3


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/mails/ab-0"),
        ("DELETE", "/v1/mails/ab-0"),
        ("PATCH", "/v1/mails/ab-0"),
        ("GET", "/v1/batches/ab"),
        ("DELETE", "/v1/batches/ab"),
    ],
)
def test_what_is_not_there_is_404(api: Service, method: str, path: str) -> None:
    assert api.request(method, path, b'{"scheduled_at":""}', JSON).status == 404
