from __future__ import annotations

from collections.abc import Iterator

import pytest
from mailer_ses.account import Account, Client
from mailer_ses.transport import SesTransport

from tests.ses.harness import FakeSes


@pytest.fixture(scope="session")
def ses_process() -> Iterator[FakeSes]:
    fake = FakeSes.start()
    yield fake
    fake.stop()


@pytest.fixture(scope="session")
def client(ses_process: FakeSes, account: Account) -> Iterator[Client]:
    """One client for many tests: botocore takes a while to read its service description."""
    with pytest.MonkeyPatch.context() as environment:
        set_credentials(environment)
        environment.setenv("AWS_ENDPOINT_URL_SESV2", ses_process.url)
        yield Client(account, connections=32)


@pytest.fixture
def ses(ses_process: FakeSes, aws: None, monkeypatch: pytest.MonkeyPatch) -> FakeSes:
    """A fake that behaves well and has nothing on record; boto3 is pointed at it."""
    ses_process.forget()
    monkeypatch.setenv("AWS_ENDPOINT_URL_SESV2", ses_process.url)
    return ses_process


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> None:
    set_credentials(monkeypatch)


def set_credentials(environment: pytest.MonkeyPatch) -> None:
    """In the environment, and no others anywhere."""
    environment.setenv("AWS_ACCESS_KEY_ID", "AKIATEST")
    environment.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    environment.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        environment.setenv(name, "/nonexistent")


@pytest.fixture(scope="session")
def account() -> Account:
    return Account(
        region="eu-central-1", from_email="Shop & Söhne <shop@example.org>", tells_events=True
    )


@pytest.fixture
def transport(ses: FakeSes, account: Account, client: Client) -> SesTransport:
    return SesTransport(account, client)
