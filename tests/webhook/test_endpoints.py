"""Endpoint records: made, changed and rotated alike by settings, API and command."""

from __future__ import annotations

import re

import pytest
from mailer_webhook.endpoints import MAX_ENDPOINTS, OLD_SECRET_MS, Choice, Endpoint
from mailer_webhook.settings import WebhookSettings

from mailer.errors import Conflict, InvalidRequest, NotFound
from mailer.variables import read
from tests.store.world import START_MS
from tests.webhook.desk import LOOPBACK, Desk

URL = "https://example.com/hook"


def made(url: str = URL) -> Endpoint:
    return Endpoint.made(Choice(url=url), now_ms=START_MS)


def test_for_a_day_after_a_rotation_two_secrets_sign_never_three() -> None:
    first = made()
    second = first.rotated(START_MS)
    third = second.rotated(START_MS + 1000)
    (old,), (new, _), (newest, _) = (e.signing_keys(START_MS) for e in (first, second, third))
    assert second.signing_keys(START_MS + OLD_SECRET_MS - 1) == [new, old]
    assert second.signing_keys(START_MS + OLD_SECRET_MS) == [new]
    assert third.signing_keys(START_MS + 2000) == [newest, new]


def test_every_fault_of_a_choice_is_named() -> None:
    choice = Choice(
        url="http://localhost/", types=("bounce", "bounced"), topics=("", "x" * 300), batch_size=101
    )
    with pytest.raises(InvalidRequest) as refused:
        choice.checked(())
    paths = [fault.path for fault in refused.value.faults]
    assert paths == ["url", "types[1]", "topics[0]", "topics[1]", "batch_size"]


def test_a_url_is_there_once_and_endpoints_are_not_without_number(desk: Desk) -> None:
    with desk.access.write():
        for n in range(MAX_ENDPOINTS - 1):
            desk.endpoints.put(made(f"{URL}/{n}"))
        with pytest.raises(Conflict, match="has this URL"):
            desk.endpoints.put(made(f"{URL}/7"))
        desk.endpoints.put(made())
        with pytest.raises(Conflict, match="the most"):
            desk.endpoints.put(made(f"{URL}/more"))
        desk.endpoints.put(desk.endpoints.all()[3].rotated(START_MS))


@pytest.mark.parametrize("endpoint_id", ["we-0", "", "a\nb", "x" * 1000, "\x00"])
def test_there_is_no_such_endpoint(desk: Desk, endpoint_id: str) -> None:
    with pytest.raises(NotFound):
        desk.endpoints.get(endpoint_id)


def test_endpoints_of_the_settings_are_those_that_stand_there(desk: Desk) -> None:
    own = desk.add(f"{URL}/own")

    def match(*choices: Choice) -> dict[str, Endpoint]:
        with desk.access.write():
            desk.endpoints.match_settings(choices, START_MS)
        return {endpoint.choice.url: endpoint for endpoint in desk.endpoints.all()}

    first = match(Choice(url=f"{URL}/1"), Choice(url=f"{URL}/2", types=("open",)))
    assert set(first) == {f"{URL}/own", f"{URL}/1", f"{URL}/2"}
    again = match(Choice(url=f"{URL}/2", types=("bounce",)))
    assert set(again) == {f"{URL}/own", f"{URL}/2"}
    kept = again[f"{URL}/2"]
    assert (kept.endpoint_id, kept.secrets) == (
        first[f"{URL}/2"].endpoint_id,
        first[f"{URL}/2"].secrets,
    )
    assert kept.choice.types == ("bounce",)
    assert [endpoint.endpoint_id for endpoint in match().values()] == [own]


def settings(**variables: str) -> tuple[WebhookSettings, str]:
    values, _, faults = read(WebhookSettings, [("test", variables)])
    return WebhookSettings(**values), "; ".join(fault.problem for fault in faults)


def test_settings() -> None:
    found, faults = settings(
        WEBHOOK_ENDPOINTS=f"{URL} types=bounce,open topics=news/*,receipts batch=100; {URL}/2 ;",
        WEBHOOK_ALLOW_PRIVATE="127.0.0.0/8, fd12::/64",
    )
    assert faults == ""
    assert found.endpoints == (
        Choice(url=URL, types=("bounce", "open"), topics=("news/*", "receipts"), batch_size=100),
        Choice(url=f"{URL}/2"),
    )
    assert found.allow_private[0] == LOOPBACK[0]
    assert settings() == (WebhookSettings(), "")


@pytest.mark.parametrize(
    ("variables", "problem"),
    [
        ({"WEBHOOK_ENDPOINTS": "example.com"}, "url: it has to be of the form"),
        ({"WEBHOOK_ENDPOINTS": f"{URL} types=bounced"}, "'bounced' is no type of event"),
        ({"WEBHOOK_ENDPOINTS": f"{URL} type=bounce"}, "'type=bounce' is no option"),
        ({"WEBHOOK_ENDPOINTS": f"{URL} batch=1 batch=2"}, "'batch=2' .*twice"),
        ({"WEBHOOK_ENDPOINTS": f"{URL} batch=x"}, "batch_size: from 1 to 100"),
        ({"WEBHOOK_ENDPOINTS": f"{URL};{URL}"}, "twice"),
        ({"WEBHOOK_ALLOW_PRIVATE": "10.0.0.1/8"}, "has host bits set"),
        ({"WEBHOOK_ALLOW_PRIVATE": "internal"}, "internal"),
    ],
)
def test_wrong_settings_are_named(variables: dict[str, str], problem: str) -> None:
    assert re.search(problem, settings(**variables)[1])
