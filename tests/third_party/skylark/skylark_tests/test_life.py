"""A mail goes out through Skylark by mailer itself, and what became of it comes back."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailer.testing import Callback, Installation, until

from .conftest import KEY, Provider
from .test_contracts import callback


@pytest.fixture
def mailer(provider: Provider, tmp_path: Path) -> Iterator[Installation]:
    mailer = Installation(tmp_path, TRANSPORT="skylark", SKYLARK_URL=provider.url, SKYLARK_KEY=KEY)
    yield mailer
    mailer.stop()


def test_a_mail_s_life(mailer: Installation, provider: Provider) -> None:
    mailer.run()
    message = {"subject": "Hello", "text": "Hello", "emails": ["ann@example.org"]}
    status, answer = mailer.call("POST", "/v1/messages", {"messages": [message]})
    assert status == 200
    (mail,) = answer["messages"][0]["request_ids"]
    until(lambda: provider.messages)
    assert f"ref={mail}" in provider.requests[0]
    assert post(mailer, callback("landed", ref=mail)) == 200
    until(lambda: mailer.call("GET", f"/v1/mails/{mail}")[1]["state"] == "delivered")
    forged = Callback({"skylark-signature": "0"}, callback("returned", ref=mail).body)
    assert post(mailer, forged) == 403
    assert f'destination="Skylark at {provider.url}' in mailer.log


def post(mailer: Installation, callback: Callback) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", mailer.port, timeout=10)
    connection.request("POST", "/v1/events/results", callback.body, dict(callback.headers))
    status = connection.getresponse().status
    connection.close()
    return status


def test_its_command(mailer: Installation) -> None:
    assert mailer.mailer("skylark", "account").stdout == "50 mails a second, 10,000 a day\n"
    without = mailer.mailer("skylark", "account", SKYLARK_URL="")
    assert (without.returncode, without.stderr.startswith("Error: SKYLARK_URL")) == (1, True)


def test_its_settings_are_shown_with_mailer_s_own(mailer: Installation) -> None:
    rows = {row["name"]: row for row in mailer.json("config")}
    assert rows["SKYLARK_KEY"]["value"] == "********"
    assert rows["SKYLARK_URL"]["origin"] == "SKYLARK_URL in environment"
