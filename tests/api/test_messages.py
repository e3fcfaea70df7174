"""`POST /v1/messages`: what is accepted, what is answered, what is on disk then."""

from __future__ import annotations

import base64
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.api.service import Service


def test_the_references_request_gets_the_references_answer(api: Service) -> None:
    answer = api.post(
        "/v1/messages",
        {
            "messages": [
                {
                    "topic_id": "newsletter_2024_01",
                    "emails": ["a@example.com", "b@example.com"],
                    "subject": "Hello",
                    "content": "<h1>Hello</h1>",
                }
            ],
            "scheduled_at": "2024-01-01 09:00:00",
        },
    )

    assert answer.status == 200
    assert {name: answer.json[name] for name in ("total", "success", "errors", "scheduled")} == {
        "total": 2,
        "success": 2,
        "errors": 0,
        "scheduled": False,
    }
    assert isinstance(answer.json["duration_ms"], int)


def test_empty_topic_and_time_mean_absent(api: Service) -> None:
    answer = api.post(
        "/v1/messages",
        {
            "messages": [
                {"topic_id": "", "emails": ["a@example.com"], "subject": "s", "content": "c"}
            ],
            "scheduled_at": "",
        },
    )

    assert answer.status == 200
    assert answer.json["messages"][0]["topic_id"] is None
    assert answer.json["scheduled"] is False


def test_recipients_follow_emails_and_duplicates_share_an_id(api: Service) -> None:
    answer = api.send(
        "a@example.com",
        "b@EXAMPLE.com",
        recipients=[{"email": "B@example.com"}, {"email": "c@example.com", "name": "C"}],
    )

    first, second, again, third = answer.json["messages"][0]["request_ids"]
    assert second == again
    assert len({first, second, third}) == 3
    assert (answer.json["total"], answer.json["success"], answer.json["duplicates"]) == (4, 3, 1)
    assert api.get(f"/v1/mails/{third}").json["recipient"] == "c@example.com"


def test_a_scheduled_batch_says_when_with_an_offset(api: Service) -> None:
    due_at = (datetime.now().astimezone() + timedelta(hours=1)).replace(microsecond=0)
    body = {
        "messages": [{"emails": ["a@example.com"], "subject": "s", "text": "t"}],
        "scheduled_at": due_at.isoformat(),
    }

    answer = api.post("/v1/messages", body)

    assert answer.json["scheduled"] is True
    assert datetime.fromisoformat(answer.json["due_at"]) == due_at
    mail = api.get(f"/v1/mails/{answer.json['messages'][0]['request_ids'][0]}").json
    assert mail["waits_for"] == "due_time"


def test_all_of_a_message_is_stored(serve: Callable[..., Service]) -> None:
    service = serve()
    answer = service.send(
        "a@example.com",
        text="plain",
        topic_id="all/of/it",
        reply_to="Desk <desk@example.com>",
        headers={"X-Campaign": "7"},
        tags={"campaign": "seven"},
        attachments=[
            {
                "filename": "ü.png",
                "content": base64.b64encode(b"\x89PNG").decode(),
                "content_type": "image/png",
                "content_id": "logo",
            }
        ],
        lane="bulk",
        track_opens=False,
        track_clicks=True,
        **{"from": '"Shop, the" <shop@example.com>'},
    )

    assert answer.status == 200, answer.body
    with closing(service.store()) as store:
        content = store.messages.get(1)
    assert content.text == "plain"
    assert content.from_email == '"Shop, the" <shop@example.com>'
    assert content.headers == (("X-Campaign", "7"),)
    assert content.tags == {"campaign": "seven"}
    assert content.attachments[0].content == b"\x89PNG"
    assert (content.track_opens, content.track_clicks, str(content.lane)) == (False, True, "bulk")


def test_one_recipient_is_interactive_and_several_are_bulk(api: Service) -> None:
    one = api.send("a@example.com").json["messages"][0]["request_ids"][0]
    two = api.send("a@example.com", "b@example.com").json["messages"][0]["request_ids"][0]

    assert api.get(f"/v1/mails/{one}").json["lane"] == "interactive"
    assert api.get(f"/v1/mails/{two}").json["lane"] == "bulk"


def test_skip_leaves_out_bad_recipients_and_says_which(api: Service) -> None:
    answer = api.post(
        "/v1/messages",
        {
            "on_error": "skip",
            "messages": [
                {
                    "emails": ["good@example.com", "bad", "fine@example.com"],
                    "subject": "Hi {{ name }}",
                    "content": "c",
                    "recipients": [
                        {"email": "x@example.com", "data": {"name": "X"}},
                        {"email": "y@example.com", "data": {}},
                    ],
                }
            ],
        },
    )

    assert answer.status == 200, answer.body
    assert (answer.json["total"], answer.json["success"], answer.json["errors"]) == (5, 1, 4)
    ids = answer.json["messages"][0]["request_ids"]
    assert [request_id is not None for request_id in ids] == [False, False, False, True, False]
    assert [(s["path"], s["code"]) for s in answer.json["skipped"]] == [
        ("messages[0].emails[1]", "address_invalid"),
        ("messages[0].emails[0]", "template_undefined"),
        ("messages[0].emails[2]", "template_undefined"),
        ("messages[0].recipients[1]", "template_undefined"),
    ]


def test_skipping_everybody_is_refused(api: Service) -> None:
    message = {"emails": ["bad"], "subject": "s", "content": "c"}

    answer = api.post("/v1/messages", {"messages": [message], "on_error": "skip"})

    assert answer.status == 422
    assert answer.faults == [("messages[0].emails[0]", "address_invalid")]


def test_ten_thousand_are_taken_and_one_more_is_not(api: Service) -> None:
    emails = [f"user{n}@example.com" for n in range(10_001)]

    assert api.send(*emails[:-1], topic_id="ten-thousand").json["success"] == 10_000
    refused = api.send(*emails)

    assert refused.faults == [("messages", "too_many")]
    assert api.get("/v1/topics/ten-thousand").json["total"] == 10_000


def test_all_faults_are_named_at_once(api: Service) -> None:
    answer = api.post(
        "/v1/messages",
        {
            "messages": [
                {
                    "topic_id": 3,
                    "emails": ["a@example.com", 7, "bad", "ü@example.com"],
                    "subject": "a\r\nBcc: x@example.com",
                    "headers": {"Bcc": "x@example.com", "X-A": "a\nb"},
                    "expires_at": "2001-01-01 00:00:00",
                    "transport": "owl",
                    "colour": "red",
                }
            ],
            "scheduled_at": "tomorrow",
            "transport": "pigeon",
        },
    )

    assert answer.status == 422
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert set(answer.faults) == {
        ("messages[0].colour", "unknown_field"),
        ("messages[0].topic_id", "wrong_type"),
        ("messages[0].emails[1]", "wrong_type"),
        ("messages[0].emails[2]", "address_invalid"),
        ("messages[0].emails[3]", "local_part_not_ascii"),
        ("messages[0].subject", "subject_invalid"),
        ("messages[0].content", "missing"),
        ("messages[0].headers.Bcc", "header_reserved"),
        ("messages[0].headers.X-A", "header_value_invalid"),
        ("messages[0].expires_at", "expired"),
        ("scheduled_at", "time_invalid"),
        ("messages[0].transport", "transport_unknown"),
        ("transport", "transport_unknown"),
    }


def test_of_many_faults_the_first_hundred_are_named(api: Service) -> None:
    answer = api.send(*(f"bad{n}" for n in range(500)))

    assert answer.status == 422
    assert len(answer.faults) == 100
    assert answer.faults[99][0] == "messages[0].emails[99]"


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"subject": "x" * 999}, ("messages[0].subject", "subject_too_long")),
        ({"subject": "a\x00b"}, ("messages[0].subject", "subject_invalid")),
        ({"topic_id": "x" * 256}, ("messages[0].topic_id", "topic_invalid")),
        ({"topic_id": "a\x1fb"}, ("messages[0].topic_id", "topic_invalid")),
        ({"lane": "slow"}, ("messages[0].lane", "wrong_type")),
        ({"track_opens": "yes"}, ("messages[0].track_opens", "wrong_type")),
        ({"tags": {"a b": "c"}}, ("messages[0].tags.a b", "tag_invalid")),
        ({"headers": {"a b": "c"}}, ("messages[0].headers.a b", "header_name_invalid")),
        ({"headers": {"X-A": "x" * 994}}, ("messages[0].headers.X-A", "header_too_long")),
        ({"headers": {"X-A": "ü"}}, ("messages[0].headers.X-A", "header_value_invalid")),
        ({"headers": {"X-A": "1", "x-a": "2"}}, ("messages[0].headers.x-a", "header_twice")),
        ({"headers": {"DKIM-Signature": "1"}}, ("messages[0].headers.DKIM-Signature",
                                                "header_reserved")),
        ({"from": "nobody"}, ("messages[0].from", "address_invalid")),
        ({"reply_to": "A\nB <a@example.com>"}, ("messages[0].reply_to", "name_invalid")),
        ({"emails": []}, ("messages[0].emails", "missing")),
        ({"recipients": [{"email": "b@example.com", "name": "a\nb"}]},
         ("messages[0].recipients[0]", "name_invalid")),
        ({"recipients": [{"name": "a"}]}, ("messages[0].recipients[0].email", "missing")),
        ({"attachments": [{"filename": "a", "content": "%"}]},
         ("messages[0].attachments[0].content", "base64_invalid")),
        ({"attachments": [{"filename": "../a", "content": ""}]},
         ("messages[0].attachments[0].filename", "filename_invalid")),
        ({"attachments": [{"filename": "a", "content": "", "content_type": "a\r\nb"}]},
         ("messages[0].attachments[0].content_type", "content_type_invalid")),
        ({"attachments": [{"filename": "a", "content": "", "content_id": "<a b>"}]},
         ("messages[0].attachments[0].content_id", "content_id_invalid")),
        ({"content": "{{ name }}", "recipients": [{"email": "b@example.com", "data": {}}]},
         ("messages[0].emails[0]", "template_undefined")),
        ({"content": "{{", "recipients": [{"email": "b@example.com", "data": {}}]},
         ("messages[0].content", "template_invalid")),
    ],
)  # fmt: skip
def test_each_fault_is_named(api: Service, fields: dict[str, Any], fault: tuple[str, str]) -> None:
    answer = api.send("a@example.com", **fields)

    assert answer.status == 422
    assert fault in answer.faults


def test_the_control_of_those_faults_is_accepted(api: Service) -> None:
    answer = api.send(
        "a@example.com",
        subject="x" * 998,
        topic_id="x" * 255,
        headers={"X-A": "x" * 993},
        tags={"a": "b"},
    )

    assert answer.status == 200, answer.body


def test_braces_mean_nothing_without_data(api: Service) -> None:
    assert api.send("a@example.com", content="{{ product_name }} {% {{").status == 200


def test_fifty_equal_requests_at_once_are_one_batch(api: Service) -> None:
    body = {"messages": [{"topic_id": "fifty", "emails": ["a@example.com"], "subject": "s",
                          "content": "c"}]}  # fmt: skip

    def post(_: int) -> tuple[int, bytes, str | None]:
        answer = api.post("/v1/messages", body, {"Idempotency-Key": "fifty"})
        return answer.status, answer.body, answer.headers["Idempotency-Replayed"]

    with ThreadPoolExecutor(50) as threads:
        answers = list(threads.map(post, range(50)))

    assert {status for status, _, _ in answers} == {200}
    assert len({body for _, body, _ in answers}) == 1
    assert sorted(replayed or "" for _, _, replayed in answers) == [""] + ["true"] * 49
    assert api.get("/v1/topics/fifty").json["total"] == 1


def test_without_a_key_equal_requests_are_as_many_batches(api: Service) -> None:
    assert [api.send("a@example.com", topic_id="twice").status for _ in range(2)] == [200, 200]
    assert api.get("/v1/topics/twice").json["total"] == 2


def test_a_key_with_another_body_conflicts(api: Service) -> None:
    key = {"Idempotency-Key": "other"}
    message = {"emails": ["a@example.com"], "subject": "s", "content": "c"}
    api.post("/v1/messages", {"messages": [message]}, key)

    answer = api.post("/v1/messages", {"messages": [message | {"subject": "t"}]}, key)

    assert answer.status == 409


def test_a_refusal_is_not_kept_under_a_key(api: Service) -> None:
    key = {"Idempotency-Key": "refused"}
    message = {"emails": ["bad"], "subject": "s", "content": "c"}
    assert api.post("/v1/messages", {"messages": [message]}, key).status == 422

    message["emails"] = ["good@example.com"]

    assert api.post("/v1/messages", {"messages": [message]}, key).status == 200


@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb"])
def test_a_key_that_is_no_key_is_refused(api: Service, key: str) -> None:
    answer = api.post("/v1/messages", {"messages": []}, {"Idempotency-Key": key})

    assert answer.faults == [("Idempotency-Key", "header_value_invalid")]


def test_a_full_queue_is_429_and_stores_nothing(serve: Callable[..., Service]) -> None:
    service = serve(MAX_QUEUED="3")
    assert service.send("a@example.com", "b@example.com", topic_id="full").status == 200

    refused = service.send("c@example.com", "d@example.com", topic_id="full")

    assert refused.status == 429
    assert int(refused.headers["Retry-After"]) > 0
    assert service.get("/v1/topics/full").json["total"] == 2
    assert service.send("c@example.com", topic_id="full").status == 200
