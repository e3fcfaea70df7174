"""The log of all processes together: a line an event, fields to find mail by, nothing of what a
mail holds; and the way from an HTTP request to the attempts of its mails.
"""

from __future__ import annotations

import json
import logging
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mailer.journal import priority
from mailer.log_lines import FIELDS
from tests.process.harness import LISTENERS, Mailer
from tests.smtp_sink import Script, SmtpSink
from tests.waiting import until
from tests.weakened import mailer_command

Start = Callable[..., Mailer]

SECRET = "canary7d1"
ADDRESS = f"poison@{SECRET}.example.com"
SAID = f"550 5.1.1 <{ADDRESS}>: no such user; what was it you wrote, {SECRET}?"


@pytest.fixture
def refusing() -> Iterator[SmtpSink]:
    """A server that repeats what it was told, and refuses it: for good, or for a while."""
    replies = ["250 2.1.5 ok", SAID, f"451 4.7.1 later, {SECRET}"]
    with SmtpSink(Script(replies={"RCPT": replies})) as sink:
        yield sink


def lines(mailer: Mailer) -> list[dict[str, Any]]:
    """Every line of the log, of whatever process."""
    return [json.loads(line) for line in mailer.log.splitlines()]


def sent_and_refused(start: Start, sink: SmtpSink, level: str) -> tuple[Mailer, list[str]]:
    """Three mails, of which one is taken; an event plugin that raises; an API worker killed."""
    mailer = start(
        plugins=[LISTENERS],
        TRANSPORT="smtp",
        SMTP_URL=f"smtp://127.0.0.1:{sink.port}?starttls=off",
        LOG_FORMAT="json",
        LOG_LEVEL=level,
        SENDERS="1",
        API_WORKERS="1",
    )
    (mailer.directory / "told-bad").write_text("raise")
    message = {"topic_id": "letters", "subject": SECRET, "text": SECRET}
    ids = []
    for address, request in (
        ("ann@example.com", "first"),
        (ADDRESS, "second"),
        (f"bob@{SECRET}.example.com", "third"),
    ):
        body = {"messages": [{**message, "emails": [address]}]}
        answer = mailer.post("/v1/messages", body, {"X-Request-ID": request})
        assert (answer.status, answer.headers["X-Request-ID"]) == (200, request)
        (mail,) = answer.json["messages"][0]["request_ids"]
        until(lambda mail=mail: mailer.get(f"/v1/mails/{mail}").json["attempts"])  # type: ignore[misc]
        ids.append(mail)
    for told in ("unexpected RuntimeError in plugin bad", "451 4.7.1"):
        until(lambda told=told: told in mailer.log)  # type: ignore[misc]
    mailer.kill(mailer.workers()[0])
    until(lambda: "gunicorn.error" in mailer.log)
    return mailer, ids


def test_a_refused_mail_is_found_by_every_name_it_has(start: Start, refusing: SmtpSink) -> None:
    mailer, (_, refused, *_) = sent_and_refused(start, refusing, "INFO")
    attempt, deferred = [line for line in lines(mailer) if line["msg"] == "attempt"]
    assert (deferred["outcome"], deferred["code"]) == ("deferred", "451 4.7.1")
    hashed = subprocess.run(
        mailer_command("hash", ADDRESS.upper()),
        env=mailer.environ,
        cwd=mailer.directory,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    assert attempt.pop("duration_ms") >= 0
    assert {name: attempt[name] for name in list(attempt)[5:]} == {
        "msg": "attempt",
        "mail_id": refused,
        "http_request_id": "second",
        "topic": "letters",
        "transport": "smtp",
        "attempt": 1,
        "outcome": "rejected",
        "code": "550 5.1.1",
        "recipient": hashed,
    }
    (accepted,) = [line for line in lines(mailer) if line.get("http_request_id") == "first"]
    assert (accepted["msg"], accepted["topic"]) == ("POST /v1/messages", "letters")
    mail = mailer.get(f"/v1/mails/{refused}").json
    assert mail["http_request_id"] == "second"
    assert mailer.get(f"/v1/batches/{mail['batch_id']}").json["http_request_id"] == "second"
    assert mail["detail"] == SAID
    # What its words, its subject and its address are, no line of any process tells.
    assert {line["process"] for line in lines(mailer)} >= {
        "api", "supervisor", "sender-0", "notifier-bad",
    }  # fmt: skip
    assert SECRET not in mailer.log
    assert "a secret" not in mailer.log
    assert {name for line in lines(mailer) for name in line} <= set(FIELDS)


def test_control_at_debug_a_provider_s_words_are_there(start: Start, refusing: SmtpSink) -> None:
    mailer, (taken, refused, *_) = sent_and_refused(start, refusing, "DEBUG")
    attempts = [line for line in lines(mailer) if line["msg"] == "attempt"]
    assert [(line["mail_id"], line["level"]) for line in attempts[:2]] == [
        (taken, "DEBUG"),
        (refused, "INFO"),
    ]
    assert SECRET in mailer.log


def test_an_id_of_another_form_is_not_taken(start: Start) -> None:
    mailer = start(command="serve")
    for given in ("", "a b", "a@b", "x" * 129, "\u00fc"):
        answer = mailer.get("/v1/topics", **{"X-Request-ID": given})
        made = answer.headers["X-Request-ID"]
        assert made != given
        assert f"http_request_id={made}\n" in mailer.log


def test_priorities_are_syslog_s() -> None:
    levels = (logging.CRITICAL, logging.ERROR, logging.WARNING, logging.INFO, logging.DEBUG)
    assert [priority(level) for level in levels] == [2, 3, 4, 6, 7]
