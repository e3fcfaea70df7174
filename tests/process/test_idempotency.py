"""One key, one batch: asked at the same moment, or again after the process died with the answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.api.service import Answer
from tests.process.conftest import FULL
from tests.process.harness import Mailer, addresses
from tests.waiting import until

Start = Callable[..., Mailer]

AT_ONCE = 50
KEY = {"Idempotency-Key": "order-66"}


def body(*emails: str) -> bytes:
    message = {"emails": emails, "subject": "Hello", "content": "<p>Hello"}
    return json.dumps({"messages": [message]}).encode()


def batches(mailer: Mailer) -> int:
    ((found,),) = mailer.rows("SELECT count(*) FROM batches")
    return int(found)


@pytest.mark.parametrize("mails", [1, 1000])
def test_fifty_at_once_make_one_batch(start: Start, mails: int) -> None:
    mailer = start(API_WORKERS="2", MAX_SEND_PER_SECOND="unlimited")
    for n in range(10 if FULL else 2):
        key = {"Idempotency-Key": f"{n}"}
        with ThreadPoolExecutor(AT_ONCE) as pool:
            asked = [
                pool.submit(mailer.post, "/v1/messages", body(*addresses(mails)), key)
                for _ in range(AT_ONCE)
            ]
            answers: list[Answer] = [one.result() for one in asked]
        assert {answer.status for answer in answers} == {200}
        assert len({answer.body for answer in answers}) == 1
        replayed = [answer.headers["Idempotency-Replayed"] for answer in answers]
        assert replayed.count("true") == AT_ONCE - 1
        assert batches(mailer) == n + 1
        other = mailer.post("/v1/messages", body("other@example.com"), key)
        assert other.status == 409
    until(mailer.finished, within_s=30)
    assert len(mailer.hand_overs()) == batches(mailer) * mails


def test_control_without_a_key_each_makes_its_own(start: Start) -> None:
    mailer = start(API_WORKERS="2")
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(lambda _: mailer.post("/v1/messages", body("a@example.com")), range(AT_ONCE)))
    assert batches(mailer) == AT_ONCE
