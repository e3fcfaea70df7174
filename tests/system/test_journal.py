"""The journal of a real systemd: mail and requests found by field, faults by priority."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.system.machine import Machine
from tests.waiting import until

pytestmark = pytest.mark.alone  # they share one machine

ENV = "/etc/mailer/mailer.env"


@pytest.fixture
def talkative(installed: Machine) -> Iterator[Machine]:
    """At DEBUG, where each attempt is a line; as it was, afterwards."""
    before = installed.path(ENV).read_text()
    installed.settings(LOG_LEVEL="DEBUG")
    yield installed
    installed.path(ENV).write_text(before)
    installed.run("systemctl", "restart", "mailer-supervisor", "mailer-api")


def entries(machine: Machine, *matches: str) -> list[dict[str, Any]]:
    """What `journalctl` finds in this boot."""
    found = machine.run("journalctl", "--no-pager", "-b", "-o", "json", *matches)
    return [json.loads(line) for line in found.splitlines()]


def test_a_mail_and_its_request_are_found_by_their_fields(talkative: Machine) -> None:
    message = {"topic_id": "found", "emails": ["fay@example.com"], "subject": "Hi", "text": "Hi"}
    connection = talkative.connection()
    headers = {**talkative.headers, "X-Request-ID": "order-4711"}
    connection.request("POST", "/v1/messages", json.dumps({"messages": [message]}), headers)
    (mail,) = json.loads(connection.getresponse().read())["messages"][0]["request_ids"]
    connection.close()

    attempt, *said = until(lambda: entries(talkative, f"MAILER_MAIL_ID={mail}"))
    assert all(": the provider said" in entry["MESSAGE"] for entry in said)
    assert attempt["_SYSTEMD_UNIT"] == "mailer-supervisor.service"
    assert (attempt["PRIORITY"], attempt["SYSLOG_IDENTIFIER"]) == ("7", "mailer")
    assert (attempt["MAILER_OUTCOME"], attempt["MAILER_TOPIC"]) == ("accepted", "found")
    hashed = talkative.mailer("hash", "fay@example.com")
    assert entries(talkative, f"MAILER_RECIPIENT={hashed}") == [attempt]

    request, again = entries(talkative, "MAILER_HTTP_REQUEST_ID=order-4711")
    assert again == attempt
    assert request["_SYSTEMD_UNIT"] == "mailer-api.service"
    assert (request["PRIORITY"], request["MAILER_MAILS"]) == ("6", "1")
    assert request["MESSAGE"].startswith("mailer.access: POST /v1/messages status=200 ")


def test_what_is_amiss_is_found_by_its_priority(talkative: Machine) -> None:
    """A child that was killed, and the last words of a service that can't start."""
    sender = json.loads(talkative.mailer("status", "--json"))["senders"][0]["pid"]
    talkative.run("kill", "-KILL", str(sender))
    of_supervisor = ("-u", "mailer-supervisor", "-p", "warning")

    def told(words: str) -> bool:
        return any(words in entry["MESSAGE"] for entry in entries(talkative, *of_supervisor))

    until(lambda: told("ended with status -9"))
    env = talkative.path(ENV)
    whole = env.read_text()
    env.write_text(whole + "SENDERS=many\n")
    talkative.try_run("systemctl", "restart", "--no-block", "mailer-supervisor")
    until(lambda: told("Error: SENDERS: "))
    env.write_text(whole)
    until(lambda: talkative.property("mailer-supervisor", "SubState") == "running", within_s=20)
    found = entries(talkative, *of_supervisor)
    assert {entry["PRIORITY"] for entry in found} <= {"1", "2", "3", "4"}
