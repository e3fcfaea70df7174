"""A provider's callbacks: a plugin decides, and only what is on disk is answered 200."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import pytest

from tests.api.service import Service
from tests.api.steps import claim_all
from tests.installation import install_plugin

PLUGIN = """
import json, time
from mailer.errors import ApprovalNeeded, Fault, InvalidRequest
from mailer.hookspecs import ProviderEvent, hookimpl
from mailer.vocabulary import EventType

@hookimpl
def mailer_notifications(settings, headers, body):
    if headers.get("x-provider") != "post":
        return None
    what = json.loads(body)
    match what["kind"]:
        case "forged":
            raise InvalidRequest([Fault("Signature", "signature_invalid", "is not theirs")])
        case "unreachable":
            raise ConnectionError("certificate host is down: secret-canary")
        case "unknown":
            raise ApprovalNeeded("SNS_TOPIC_ARNS", what["id"], f"{what['id']} waits")
        case "broken":
            raise RuntimeError("secret-canary")
        case "nothing":
            return []
    return [
        ProviderEvent(
            EventType(what["kind"]), 1, "post", what["id"], request_id=what["mail"],
            permanent=True, raw=body.decode(),
        )
    ]
"""

BROKEN = """
from mailer.hookspecs import hookimpl

@hookimpl
def mailer_notifications(settings, headers, body):
    if headers.get("x-provider"):
        raise KeyError("secret-canary")
"""
"""Stumbles over what is another's."""


@pytest.fixture(scope="module")
def notified(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with a provider's plugin installed."""
    directory = tmp_path_factory.mktemp("notified")
    for name, source in (("broken_provider", BROKEN), ("post_provider", PLUGIN)):
        install_plugin(directory / "site", name, source)
    service = Service(directory, python_path=[directory / "site"])
    yield service
    service.stop()


def tell(service: Service, kind: str, mail: str = "ab-0", event_id: str = "e1") -> int:
    body = f'{{"kind":"{kind}","mail":"{mail}","id":"{event_id}"}}'.encode()
    headers = {"X-Provider": "post", "Content-Type": "text/plain; charset=UTF-8"}
    return service.request("POST", "/v1/events/results", body, headers).status


def test_an_event_is_learnt_once(notified: Service) -> None:
    notified.send("a@example.com", topic_id="told")
    (mail,) = claim_all(notified)

    assert [tell(notified, "delivery", mail.request_id) for _ in range(2)] == [200, 200]

    assert notified.get("/v1/topics/told").json["result_counts"]["Delivery"] == 1


def test_an_event_before_its_mail_is_taken_too(notified: Service) -> None:
    assert tell(notified, "bounce", "fedcba-0", "early") == 200


def test_a_genuine_notification_without_events_is_200(notified: Service) -> None:
    assert tell(notified, "nothing") == 200


@pytest.mark.parametrize(("kind", "status"), [("forged", 403), ("unreachable", 503),
                                              ("broken", 500)])  # fmt: skip
def test_only_what_can_never_be_right_is_refused_for_good(
    notified: Service, kind: str, status: int
) -> None:
    assert tell(notified, kind) == status
    assert "secret-canary" not in notified.log


def test_what_only_a_setting_can_allow_is_kept_for_the_operator(notified: Service) -> None:
    """And no more of it than is bounded, whoever asks how often."""
    for number in range(50):
        assert tell(notified, "unknown", event_id=f"arn-{number}") == 503

    with sqlite3.connect(notified.database) as connection:
        asked = connection.execute("SELECT setting, value FROM approvals").fetchall()
    assert asked[0] == ("SNS_TOPIC_ARNS", "arn-0")
    assert len(asked) < 5
    assert notified.log.count(" waits") == len(asked)


def test_what_no_plugin_knows_is_403(notified: Service, api: Service) -> None:
    for service in (notified, api):
        answer = service.request("POST", "/v1/events/results", b"{}")

        assert answer.status == 403
        assert "no installed plugin recognises" in answer.json["detail"]


def test_a_huge_notification_is_413(notified: Service) -> None:
    body = b"x" * 600_000

    assert (
        notified.request("POST", "/v1/events/results", body, {"X-Provider": "post"}).status == 413
    )


def test_a_plugin_that_fails_is_named_and_keeps_no_other_from_telling(notified: Service) -> None:
    assert tell(notified, "nothing") == 200
    assert "unexpected KeyError in plugin broken_provider" in notified.log
    answer = notified.request("POST", "/v1/events/results", b"{}", {"X-Provider": "nobody's"})
    assert answer.status == 500
    assert answer.json["detail"] == "an error of the plugin broken_provider; it has been reported"
