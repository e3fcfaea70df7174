"""The reference's client lives its whole life against mailer: send, schedule, results, cancel."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

import jwt
import pytest

from mailer import tokens
from mailer.vocabulary import OutcomeKind
from tests.api.service import Service
from tests.api.steps import claim_all, record
from tests.reference_client.client import ReferenceClient
from tests.waiting import until

SECRET = "the reference signs with a secret of its own"


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    service = Service(tmp_path, {"JWT_SECRET": SECRET})
    yield service
    service.stop()


@pytest.fixture
def client(service: Service) -> ReferenceClient:
    claims = {"sub": "shop", "exp": int(time.time()) + 600}
    return ReferenceClient("127.0.0.1", service.port, jwt.encode(claims, SECRET, algorithm="HS256"))


def test_its_whole_life(service: Service, client: ReferenceClient) -> None:
    assert client.healthy()
    assert client.ready()

    emails = [f"user{n}@example.com" for n in range(100)]
    answer = client.send("newsletter_2024_01", emails, "Hello", "<p>Hello {{ you }}</p>")
    assert (answer["total"], answer["success"], answer["errors"]) == (100, 100, 0)
    assert answer["scheduled"] is False
    assert answer["duration_ms"] >= 0

    mails = claim_all(service)
    assert client.results("newsletter_2024_01")["request_counts"]["Processed"] == 100
    record(service, mails, OutcomeKind.ACCEPTED, ago_ms=60_000)
    assert client.sent(24) == 100

    with closing(service.store()) as store:
        token = tokens.sign(store.signing_key(), tokens.OPEN, mails[0].request_id)
    assert service.get(f"/v1/events/open?request_id={token}").body.startswith(b"\x89PNG")
    until(lambda: client.results("newsletter_2024_01")["result_counts"]["Open"] == 1)
    assert client.results("newsletter_2024_01")["request_counts"] == {
        "Created": 0,
        "Processed": 0,
        "Sent": 100,
        "Failed": 0,
        "Stopped": 0,
    }


def test_a_schedule_cancelled_before_its_time(service: Service, client: ReferenceClient) -> None:
    tomorrow = (datetime.now().astimezone() + timedelta(days=1)).strftime("%Y-%m-%d %H:%M:%S")

    answer = client.send("later", ["a@example.com", "b@example.com"], "Hi", "<p>Hi", tomorrow)
    assert answer["scheduled"] is True
    assert claim_all(service) == []
    assert client.results("later")["request_counts"]["Created"] == 2

    assert client.cancel("later")["status"] == "ok"
    assert client.results("later")["request_counts"]["Stopped"] == 2


def test_what_the_reference_gets_wrong_is_told_not_done(client: ReferenceClient) -> None:
    with pytest.raises(RuntimeError, match="422"):
        client.send("t", ["a@example.com"], "Hi", "<p>Hi", "01/02/2024 9 am")
    with pytest.raises(RuntimeError, match="404"):
        client.results("t")


def test_without_its_token_it_is_turned_away(service: Service) -> None:
    with pytest.raises(RuntimeError, match="401"):
        ReferenceClient("127.0.0.1", service.port, "none").results("t")
