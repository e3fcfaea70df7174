"""Forged notifications, posted to the served API: it looks nobody up and connects to nobody."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.api.service import Service
from tests.ses.authority import GOOD, Authority
from tests.ses.events import envelope
from tests.ses.test_sns import CERT_URL, CHANGED, HOST, OURS, SIGNED_BUT_WRONG, cert_url

WATCH = Path(__file__).parent / "watch"
HEADERS = {"x-amz-sns-message-type": "Notification", "Content-Type": "text/plain; charset=UTF-8"}


class Watched:
    """`mailer serve` with nobody's certificates, and what it asked the network for."""

    def __init__(self, directory: Path) -> None:
        self._asked = directory / "asked"
        settings = {"SNS_TOPIC_ARNS": ",".join(OURS), "ASKED": str(self._asked)}
        self.service = Service(directory, settings, python_path=[WATCH])
        self._before = len(self.asked())

    def asked(self) -> list[str]:
        return self._asked.read_text().splitlines()

    def tell(self, body: dict[str, Any]) -> tuple[int, list[str]]:
        """The answer's status, and whom the server has asked since its start."""
        raw = json.dumps(body)
        headers = HEADERS | {"x-amz-sns-message-type": str(body.get("Type"))}
        status = self.service.request("POST", "/v1/events/results", raw, headers).status
        return status, self.asked()[self._before :]


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    made = Watched(tmp_path_factory.mktemp("watched"))
    yield made
    made.service.stop()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.make(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def canary() -> Iterator[socket.socket]:
    """A listener that nobody is to connect to."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        yield listening


def test_no_forgery_makes_the_server_ask_anybody(
    watched: Watched, authority: Authority, canary: socket.socket
) -> None:
    good = authority.sign(envelope("x"))
    port = canary.getsockname()[1]
    hosts = ("127.0.0.1", "localhost", "2130706433", "0177.0.0.1", "[::ffff:127.0.0.1]", "[::1]",
             f"{HOST}@127.0.0.1", "169.254.169.254")  # fmt: skip
    forged = [authority.sign(body) for body, _ in SIGNED_BUT_WRONG.values()]
    forged += [changed(good) for changed, _ in CHANGED.values()]
    forged += [
        cert_url(f"{scheme}://{host}:{port}/{GOOD}")(good)
        for scheme in ("http", "https")
        for host in hosts
    ]
    assert len(forged) >= 60

    answers = [watched.tell(body) for body in forged]

    assert [status for status, _ in answers] == [403] * len(forged)
    assert answers[-1][1] == []
    with pytest.raises(BlockingIOError):
        canary.accept()


def test_control_what_may_be_genuine_is_looked_into(watched: Watched, authority: Authority) -> None:
    """The watch above sees: only the certificate's own host is asked, and can't be had here."""
    status, asked = watched.tell(cert_url(CERT_URL)(authority.sign(envelope("x"))))

    assert status == 503
    assert set(asked) == {repr(HOST)}
