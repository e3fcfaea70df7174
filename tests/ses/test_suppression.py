"""The account's own suppression list, read and filled: page by page, politely, twice the same."""

from __future__ import annotations

import json

import pytest
from mailer_ses import suppression
from mailer_ses.account import Client, Refused

from mailer.mail import Suppression
from mailer.vocabulary import SuppressionReason
from tests.installation import Installation
from tests.ses.fake_suppression import SINCE
from tests.ses.harness import FakeSes

R = SuppressionReason
SLOW_DOWN = {"status": 429, "code": "TooManyRequestsException"}


def entry(email: str, reason: SuppressionReason = R.BOUNCE, scope: str = "") -> Suppression:
    return Suppression(email, scope, reason, "", 0)


def put(client: Client, *entries: Suppression) -> tuple[int, int, int]:
    return suppression.put(client, entries, lambda _: None, lambda _: None)


def test_all_pages_are_read_with_a_pause_between(ses: FakeSes, client: Client) -> None:
    addresses = {f"a{n}@example.net": "COMPLAINT" if n == 1 else "BOUNCE" for n in range(5)}
    ses.told(suppressed=addresses, suppression_page=2)
    pauses: list[float] = []

    found = list(suppression.listed(client, pauses.append))

    assert [one.email for one in found] == sorted(addresses)
    assert [one.reason for one in found] == [R.BOUNCE, R.COMPLAINT, R.BOUNCE, R.BOUNCE, R.BOUNCE]
    assert {(one.scope, one.created_at_ms) for one in found} == {("", SINCE * 1000)}
    assert pauses == [1.0, 1.0]


def test_asked_to_slow_down_it_waits_ever_longer_and_goes_on(ses: FakeSes, client: Client) -> None:
    ses.told(suppressed={"a@example.net": "BOUNCE"}, faults=[SLOW_DOWN] * 3)
    pauses: list[float] = []

    assert len(list(suppression.listed(client, pauses.append))) == 1
    assert pauses == [1.0, 2.0, 4.0]

    ses.told(faults=[SLOW_DOWN] * 6)
    with pytest.raises(Refused, match="TooManyRequests"):
        list(suppression.listed(client, pauses.append))


def test_only_what_ses_can_say_is_put_and_only_once(ses: FakeSes, client: Client) -> None:
    ses.told(suppressed={"Known@example.net": "BOUNCE"})
    entries = (
        entry("known@example.net"),
        entry("new@example.net"),
        entry("angry@example.net", R.COMPLAINT),
        entry("some@example.net", R.COMPLAINT, scope="news"),
        entry("left@example.net", R.UNSUBSCRIBE),
        entry("theirs@example.net", R.PROVIDER),
    )

    assert put(client, *entries) == (2, 1, 3)
    listed = {one.email: one.reason for one in suppression.listed(client, lambda _: None)}
    assert listed["new@example.net"] is R.BOUNCE
    assert listed["angry@example.net"] is R.COMPLAINT
    assert put(client, *entries) == (0, 3, 3)


def test_as_typed(installed: Installation, ses: FakeSes) -> None:
    ses.told(suppressed={"a@example.net": "BOUNCE", "b@example.net": "COMPLAINT"})
    installed.mailer("migrate")

    first = installed.mailer("suppressions", "import", "--from-ses", "--json")
    again = installed.mailer("suppressions", "import", "--from-ses", "--json")

    assert json.loads(first.stdout) == {"added": 2, "present": 0}
    assert json.loads(again.stdout) == {"added": 0, "present": 2}
    back = installed.mailer("suppressions", "export", "--to-ses")
    assert "0 added to the list of the SES account, 2 were on it already" in back.stdout
