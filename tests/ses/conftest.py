from __future__ import annotations

from collections.abc import Iterator

import pytest
from mailer_ses.account import Account
from mailer_ses.transport import SesTransport

from tests.ses.harness import FakeSes


@pytest.fixture(scope="session")
def ses_process() -> Iterator[FakeSes]:
    fake = FakeSes.start()
    yield fake
    fake.stop()


@pytest.fixture
def ses(ses_process: FakeSes, aws: None, monkeypatch: pytest.MonkeyPatch) -> FakeSes:
    """A fake that behaves well and has nothing on record; boto3 is pointed at it."""
    ses_process.forget()
    monkeypatch.setenv("AWS_ENDPOINT_URL_SESV2", ses_process.url)
    return ses_process


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials in the environment, and no others anywhere."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATEST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/nonexistent")


@pytest.fixture
def account() -> Account:
    return Account(
        region="eu-central-1", from_email="Shop & Söhne <shop@example.org>", tells_events=True
    )


@pytest.fixture
def transport(ses: FakeSes, account: Account) -> SesTransport:
    return SesTransport(account)
