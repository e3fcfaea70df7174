"""Endpoints by API, command and settings: the same records and refusals, secrets shown once."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.certificates import Certificates
from tests.installation import Installation
from tests.waiting import until
from tests.webhook import receiver as r
from tests.webhook.receiver import Receiver

URL = "https://example.com/hook"
README = (Path(__file__).parent.parent.parent / "README.md").read_text()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    made = Installation(
        tmp_path_factory.mktemp("running"),
        WEBHOOK_ALLOW_PRIVATE="127.0.0.0/8",
        WEBHOOK_ENDPOINTS=f"{URL}/of-the-settings types=complaint",
    )
    made.run()
    until(lambda: webhooks(made))
    yield made
    made.stop()
    assert "whsec_" not in made.log
    assert "ann@example.com" not in made.log


def webhooks(installation: Installation) -> dict[str, Any]:
    """The endpoints there are, by their URL."""
    return {
        found["url"]: found for found in installation.call("GET", "/v1/webhooks")[1]["webhooks"]
    }


def test_the_life_of_an_endpoint_by_api(running: Installation) -> None:
    status, made = running.call("POST", "/v1/webhooks", {"url": URL, "types": ["bounce"]})
    assert (status, made["url"], made["types"], made["enabled"]) == (200, URL, ["bounce"], True)
    assert made["secret"].startswith("whsec_")
    path = f"/v1/webhooks/{made['endpoint_id']}"
    assert webhooks(running)[URL] == {**made, "secret": None}
    assert running.call("GET", path) == (200, {**made, "secret": None})

    _, changed = running.call("PATCH", path, {"topics": ["news/*"], "batch_size": 50})
    assert changed == {**made, "secret": None, "topics": ["news/*"], "batch_size": 50}
    _, rotated = running.call("PATCH", path, {"rotate_secret": True})
    assert rotated["secret"] not in {None, made["secret"]}
    _, off = running.call("PATCH", path, {"enabled": False})
    assert (off["enabled"], off["off_reason"]) == (False, "it was switched off by hand")
    (note,) = running.json("status")["notes"]
    assert note["plugin"] == "webhook"
    assert re.fullmatch(rf"endpoint {made['endpoint_id']} is off since .*by hand", note["note"])
    _, on = running.call("PATCH", path, {"enabled": True})
    assert on == changed

    assert running.call("DELETE", path)[0] == 200
    for method, body in (("GET", None), ("PATCH", {}), ("DELETE", None)):
        assert running.call(method, path, body)[0] == 404
    assert URL not in webhooks(running)


@pytest.mark.parametrize(
    ("body", "paths"),
    [
        ({}, ["url"]),
        ({"url": 7}, ["url"]),
        ({"url": "https://169.254.169.254/"}, ["url"]),
        ({"url": "https://[::ffff:10.0.0.1]/"}, ["url"]),
        ({"url": URL, "secret": "mine"}, ["secret"]),
        (
            {"url": "ftp://x/", "types": ["bounced"], "topics": [""], "batch_size": 0},
            ["url", "types[0]", "topics[0]", "batch_size"],
        ),
    ],
)
def test_what_is_wrong_is_named(
    running: Installation, body: dict[str, Any], paths: list[str]
) -> None:
    status, problem = running.call("POST", "/v1/webhooks", body)
    assert (status, [fault["path"] for fault in problem["errors"]]) == (422, paths)
    assert list(webhooks(running)) == [f"{URL}/of-the-settings"]


def test_one_of_the_settings_is_changed_there(running: Installation) -> None:
    url, made = next((u, w) for u, w in webhooks(running).items() if w["from_settings"])
    path = f"/v1/webhooks/{made['endpoint_id']}"
    for method, body in (("DELETE", None), ("PATCH", {"types": []})):
        status, problem = running.call(method, path, body)
        assert (status, "WEBHOOK_ENDPOINTS" in problem["detail"]) == (409, True)
    assert running.call("PATCH", path, {"rotate_secret": True})[1]["secret"]
    status, problem = running.call("POST", "/v1/webhooks", {"url": url})
    assert (status, "has this URL" in problem["detail"]) == (409, True)


@pytest.fixture
def by_tls(tmp_path: Path) -> Iterator[Receiver]:
    """As receivers are; its authority is the one in `tmp_path / "ca.pem"`."""
    with Receiver(tls=Certificates.make(tmp_path).server("localhost")) as made:
        yield made


def test_commands_do_what_the_api_does(installation: Installation, by_tls: Receiver) -> None:
    """With nothing running: they work on the database itself."""
    receiver, url = by_tls, f"https://localhost:{by_tls.port}/hook"
    installation.environ |= {
        "WEBHOOK_ALLOW_PRIVATE": "127.0.0.0/8",
        "SSL_CERT_FILE": str(installation.directory / "ca.pem"),
    }
    missing = installation.mailer("webhooks", "list")
    assert (missing.returncode, "mailer migrate" in missing.stderr) == (1, True)
    installation.mailer("migrate")
    options = ("--type", "bounce", "--type", "open", "--topic", "news/*", "--batch", "50")
    made = installation.json("webhooks", "add", url, *options)
    endpoint = made["endpoint_id"]
    assert (made["types"], made["topics"]) == (["bounce", "open"], ["news/*"])
    assert installation.json("webhooks", "list") == [{**made, "secret": None}]

    tested = installation.mailer("webhooks", "test", endpoint)
    assert re.fullmatch(rf"{endpoint} took it in \d+ ms: 204 No Content\n", tested.stdout), tested
    rotated = installation.json("webhooks", "rotate", endpoint)
    receiver.behaviour = r.WRONG["500"]
    failed = installation.mailer("webhooks", "test", endpoint)
    assert (failed.returncode, "500 Internal Server Error" in failed.stderr) == (1, True)
    for secret in (made["secret"], rotated["secret"]):
        assert receiver.deliveries[1].verified(secret)["type"] == "test"

    assert "by hand" in installation.mailer("webhooks", "off", endpoint).stdout
    assert "by hand" not in installation.mailer("webhooks", "on", endpoint).stdout
    untrusted = installation.mailer("webhooks", "test", endpoint, SSL_CERT_FILE="/dev/null")
    assert (untrusted.returncode, "certificate verify failed" in untrusted.stderr) == (1, True)
    assert installation.mailer("webhooks", "remove", endpoint).returncode == 0
    gone = installation.mailer("webhooks", "remove", endpoint)
    assert (gone.returncode, gone.stderr) == (1, f"Error: there is no endpoint '{endpoint}'\n")
    refused = installation.mailer("webhooks", "add", "http://8.8.8.8/")
    assert (refused.returncode, "needs https://" in refused.stderr) == (1, True)


def test_from_the_mail_to_the_receiver_and_again_by_replay(
    running: Installation, receiver: Receiver
) -> None:
    """The README's way to check a signature takes what comes, and nothing else."""
    _, made = running.call("POST", "/v1/webhooks", {"url": receiver.url, "types": ["sent"]})
    message = {"subject": "Hello", "text": "Hello", "emails": ["ann@example.com"]}
    running.call("POST", "/v1/messages", {"messages": [message]})
    (first,) = until(lambda: receiver.deliveries)
    asked = running.mailer("webhooks", "replay", made["endpoint_id"], "--since", "1h")
    assert "is to be told again" in asked.stdout
    again = until(lambda: receiver.deliveries[1:])[0]
    assert (again.webhook_id, again.body) == (first.webhook_id, first.body)
    data = json.loads(first.body)["data"]
    assert (data["type"], data["recipient"]) == ("sent", "ann@example.com")
    assert running.call("GET", "/v1/events?type=sent")[1]["events"][0]["id"] == data["id"]

    (source,) = re.findall(r"```python\n(import base64.*?)```", README, re.DOTALL)
    example: dict[str, Any] = {}
    exec(source, example)
    is_genuine = example["is_genuine"]
    assert is_genuine(made["secret"], first.headers, first.body)
    assert not is_genuine(made["secret"], first.headers, first.body + b" ")
    late = {**first.headers, "webhook-timestamp": str(int(time.time()) - 301)}
    assert not is_genuine(made["secret"], late, first.body)
    running.call("DELETE", f"/v1/webhooks/{made['endpoint_id']}")


def test_a_time_that_is_none(installation: Installation) -> None:
    done = installation.mailer("webhooks", "replay", "we-0", "--since=2h30")
    assert (done.returncode, "neither a length of time" in done.stderr) == (2, True)
