"""What the transports here say of themselves to `mailer doctor`."""

from __future__ import annotations

from pathlib import Path

import mailer_maildir
import mailer_smtp
import pytest

from mailer import plugins
from mailer.settings import Settings
from mailer.vocabulary import CheckResult
from tests.certificates import Certificates
from tests.smtp_sink import Script, SmtpSink


def settings(**environ: str) -> Settings:
    return plugins.settings(plugins.load(), environ)


def test_the_maildir_must_be_writable(tmp_path: Path) -> None:
    mail = tmp_path / "new" / "mail"
    (fine,) = mailer_maildir.mailer_checks(settings=settings(MAILDIR_PATH=str(mail)))
    assert fine.result is CheckResult.OK
    assert not mail.exists()

    (tmp_path / "file").touch()
    (bad,) = mailer_maildir.mailer_checks(settings=settings(MAILDIR_PATH=str(tmp_path / "file")))
    assert bad.result is CheckResult.FAILURE
    assert "can't be written" in bad.finding


def test_only_what_is_asked_for_is_looked_at() -> None:
    asked = settings(TRANSPORT="ses")
    assert mailer_maildir.mailer_checks(settings=asked) == []
    assert mailer_smtp.mailer_checks(settings=asked) == []


@pytest.mark.parametrize(
    ("password", "result", "words"),
    [("right", CheckResult.OK, "logged in as user, TLSv1"), ("wrong", CheckResult.FAILURE, "535")],
)
def test_an_smtp_server_is_asked_for_tls_and_login(
    certificates: Certificates, password: str, result: CheckResult, words: str
) -> None:
    with SmtpSink(Script(password="right"), tls=certificates.server()) as sink:
        url = f"smtp://user:{password}@localhost:{sink.port}?cafile={certificates.ca_file}"
        (check,) = mailer_smtp.mailer_checks(settings=settings(SMTP_URL=url))

    assert check.result is result
    assert words in check.finding
    assert password not in check.finding + check.advice
    assert sink.mails == []


def test_an_smtp_server_that_is_not_there() -> None:
    (check,) = mailer_smtp.mailer_checks(settings=settings(SMTP_URL="smtp://127.0.0.1:1"))
    assert check.result is CheckResult.FAILURE
    assert "127.0.0.1 port 1 takes no mail from here" in check.finding
