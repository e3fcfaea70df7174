from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from mailer_ses.account import Account, Client
from mailer_ses.setup import Aws
from mailer_ses.transport import SesTransport

from tests.installation import Installation
from tests.process.harness import Mailer
from tests.ses.answering import Answering
from tests.ses.cloud import Cloud
from tests.ses.harness import FakeSes
from tests.waiting import until


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


@pytest.fixture(scope="session")
def moto_url() -> Iterator[str]:
    with closing(socket.create_server(("127.0.0.1", 0))) as probe:
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        with suppress(OSError), urlopen(f"{url}/moto-api/data.json", timeout=5):
            return True
        return False

    until(answers, within_s=30)
    yield url
    process.kill()
    process.wait()


@pytest.fixture
def cloud(ses: FakeSes, moto_url: str, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    """With nothing in it; boto3 is pointed at it."""
    made = Cloud(moto_url, ses.url)
    made.reset()
    for name, value in made.environ.items():
        monkeypatch.setenv(name, value)
    return made


@pytest.fixture
def answering() -> Iterator[Answering]:
    made = Answering()
    yield made
    made.stop()


@pytest.fixture
def installed(tmp_path: Path, ses: FakeSes) -> Installation:
    """As someone has it who sends by the fake."""
    return Installation(
        tmp_path,
        AWS_SES_FROM_EMAIL="shop@example.org",
        AWS_REGION="eu-central-1",
        AWS_ACCESS_KEY_ID="AKIATEST",
        AWS_SECRET_ACCESS_KEY="secret",
        AWS_ENDPOINT_URL_SESV2=ses.url,
    )


@pytest.fixture
def clients(cloud: Cloud) -> Aws:
    """Those that the set-up uses, made once: botocore is slow to read its service descriptions."""
    return cloud.clients()


PLUGINS = Path(__file__).parent / "plugins"


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Mailer]]:
    """Start all of mailer with SES at this URL as its way out; ended with the test."""
    started: list[Mailer] = []

    def run(url: str, *, name: str = "one", **settings: Any) -> Mailer:
        directory = tmp_path / name
        directory.mkdir()
        usual: dict[str, Any] = {
            "TRANSPORT": "ses",
            "AWS_SES_FROM_EMAIL": "shop@example.org",
            "AWS_REGION": "eu-central-1",
            "AWS_ACCESS_KEY_ID": "AKIATEST",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_ENDPOINT_URL_SESV2": url,
        }
        started.append(Mailer(directory, plugins=[PLUGINS], **usual | settings))
        return started[-1]

    yield run
    for mailer in started:
        print(mailer.log)  # seen when a test fails
        mailer.end()
