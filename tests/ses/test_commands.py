"""`mailer ses …` as typed, against the fake SES."""

from __future__ import annotations

from tests.installation import Installation
from tests.ses.harness import FakeSes


def test_account(installed: Installation, ses: FakeSes) -> None:
    ses.told(max_send_rate=14.0, max_24h=50_000.0, sent_24h=12_345.0, production=False)

    shown = installed.mailer("ses", "account")

    assert shown.returncode == 0, shown.stderr
    assert "eu-central-1, sandbox" in shown.stdout
    assert "14/s" in shown.stdout
    assert "12,345 sent of 50,000" in shown.stdout
    assert installed.json("ses", "account")["SendQuota"]["MaxSendRate"] == 14.0


def test_what_aws_refuses_is_one_sentence(installed: Installation, ses: FakeSes) -> None:
    ses.told(access_key_ids=["AKIAOTHER"])

    shown = installed.mailer("ses", "account")

    assert shown.returncode == 1
    assert shown.stderr.startswith("Error: UnrecognizedClientException: The security token")
    assert len(shown.stderr.splitlines()) == 1


def test_without_a_region(installed: Installation) -> None:
    shown = installed.mailer("ses", "account", AWS_REGION="", AWS_SES_FROM_EMAIL="")

    assert shown.returncode == 1
    assert "AWS_REGION: the ses transport has no region" in shown.stderr
