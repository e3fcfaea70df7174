"""Which way a message goes, as it is decided and told when it is accepted."""

from __future__ import annotations

from collections.abc import Callable

from tests.api.service import Service


def test_messages_of_one_batch_go_the_ways_their_topics_and_senders_have(
    serve: Callable[..., Service],
) -> None:
    service = serve(
        TRANSPORT="maildir,smtp",
        SMTP_URL="smtp://127.0.0.1:9?starttls=off",
        FROM_EMAIL="news@example.com",
        ROUTES="topic:alarms/*=smtp,maildir; from:*.shop.example=smtp",
    )
    asked: list[tuple[dict[str, str], str]] = [
        ({}, "maildir"),
        ({"topic_id": "alarms/1"}, "smtp"),
        ({"from": "Shop <a@eu.shop.example>"}, "smtp"),
        ({"topic_id": "alarms/1", "transport": "maildir"}, "maildir"),
    ]
    usual = {"emails": ["ann@example.com"], "subject": "s", "text": "t"}
    answer = service.post("/v1/messages", {"messages": [usual | own for own, _ in asked]})
    assert answer.status == 200, answer.body
    ways = [way for _, way in asked]
    assert [message["transport"] for message in answer.json["messages"]] == ways
    batch_id = answer.json["batch_id"]
    mails = [service.get(f"/v1/mails/{batch_id}-{n}").json for n in range(len(asked))]
    assert [mail["transport"] for mail in mails] == ways
    assert service.get(f"/v1/batches/{batch_id}").json["transports"] == ["maildir", "smtp"]
    named = service.post("/v1/messages", {"messages": [usual], "transport": "smtp"})
    assert named.json["messages"][0]["transport"] == "smtp"
