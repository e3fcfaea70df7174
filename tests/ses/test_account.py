"""When there is a ses transport, with which credentials, and what it knows of its account."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import mailer_ses
import pytest
from mailer_ses.account import Account
from mailer_ses.settings import SesSettings
from mailer_ses.transport import SesTransport

from mailer import settings as settings_module
from mailer.errors import SettingsError, TransportHalted, TransportUnreachable
from mailer.hookspecs import Quota, Transport
from mailer.settings import Settings
from tests.ses.harness import FakeSes

WANTED = {"AWS_SES_FROM_EMAIL": "shop@example.org", "AWS_REGION": "eu-central-1"}


def loaded(environ: dict[str, str], dotenv: Path | None = None) -> Settings:
    return settings_module.load(environ, dotenv, of_plugins=[SesSettings])


def transports(environ: dict[str, str]) -> dict[str, Transport]:
    return dict(mailer_ses.mailer_transports(settings=loaded(environ)))


@pytest.mark.parametrize(
    ("environ", "names"),
    [
        (WANTED, ["ses"]),
        ({"TRANSPORT": "ses", "FROM_EMAIL": "a@example.org", "AWS_REGION": "eu-west-1"}, ["ses"]),
        ({**WANTED, "TRANSPORT": "maildir"}, ["ses"]),
        ({"FROM_EMAIL": "a@example.org", "AWS_REGION": "eu-west-1"}, []),
        ({"TRANSPORT": "smtp", "AWS_SES_FROM_EMAIL": "a@example.org"}, []),
        ({}, []),
    ],
)
def test_the_transport_is_there_when_it_is_asked_for(
    aws: None, environ: dict[str, str], names: list[str]
) -> None:
    assert list(transports(environ)) == names


def test_a_missing_region_is_said(aws: None) -> None:
    with pytest.raises(SettingsError, match="AWS_REGION: the ses transport has no region"):
        transports({"TRANSPORT": "ses"})


def test_boto3_s_own_region_counts(aws: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "ap-south-1")

    account = Account.from_settings(loaded({"AWS_SES_FROM_EMAIL": "shop@example.org"}))

    assert account
    assert account.region == "ap-south-1"


def test_credentials_of_the_environment_are_left_to_boto3(tmp_path: Path) -> None:
    """They may come with a session token, which is no setting of ours."""
    keys = {"AWS_ACCESS_KEY_ID": "AKIA1", "AWS_SECRET_ACCESS_KEY": "s"}
    dotenv = tmp_path / ".env"
    dotenv.write_text("AWS_ACCESS_KEY_ID=AKIA2\nAWS_SECRET_ACCESS_KEY=t\n")

    from_environment = Account.from_settings(loaded({**WANTED, **keys}, dotenv))
    from_file = Account.from_settings(loaded(WANTED, dotenv))

    assert from_environment
    assert from_environment.access_key_id is None
    assert from_file
    assert (from_file.access_key_id, from_file.secret_access_key) == ("AKIA2", "t")


@pytest.mark.parametrize(
    ("told", "quota"),
    [
        ({"max_send_rate": 14.0, "max_24h": 50_000.0, "sent_24h": 7.0}, Quota(14.0, 50_000, 7)),
        ({"max_send_rate": 500.0, "max_24h": -1.0}, Quota(500.0, None, None)),
    ],
)
def test_the_quota_is_the_account_s(
    ses: FakeSes, transport: SesTransport, told: dict[str, Any], quota: Quota
) -> None:
    ses.told(**told)

    assert transport.quota() == quota


def test_without_leave_to_ask_for_the_account_mail_goes_all_the_same(
    ses: FakeSes, transport: SesTransport, caplog: pytest.LogCaptureFixture
) -> None:
    denied = {"status": 403, "code": "AccessDeniedException", "words": "not authorized"}
    ses.told(account_error=denied)

    assert transport.quota() == Quota()
    transport.open().close()

    assert "ses:GetAccount" in caplog.text


def test_an_account_that_answers_too_often_asked_is_there(
    ses: FakeSes, transport: SesTransport
) -> None:
    ses.told(account_error={"status": 429, "code": "TooManyRequestsException", "words": "slow"})

    transport.open().close()
    with pytest.raises(TransportUnreachable, match="TooManyRequests"):
        transport.quota()


def test_a_paused_account_holds_all_mail_until_it_is_resumed(
    ses: FakeSes, transport: SesTransport
) -> None:
    ses.told(sending_enabled=False)
    with pytest.raises(TransportHalted, match="resume it in the SES console"):
        transport.open()
    with pytest.raises(TransportHalted, match="resume it in the SES console"):
        transport.quota()

    ses.told()
    transport.open().close()


def test_the_sandbox_is_said_once(
    ses: FakeSes, transport: SesTransport, caplog: pytest.LogCaptureFixture
) -> None:
    ses.told(production=False, enforcement="PROBATION")

    transport.quota()
    notice = transport.quota().notice

    assert "SES sandbox in eu-central-1" in notice
    assert "PROBATION" in notice
    said = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert len(said) == 2
    assert "sandbox" in said[0]
    assert "PROBATION" in said[1]


def test_a_region_that_cannot_be_is_said(aws: None) -> None:
    transport = SesTransport(Account(region="no region!", from_email="a@example.org"))

    with pytest.raises(TransportUnreachable, match="can't be set up"):
        transport.open()
