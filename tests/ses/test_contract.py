"""The ses transport keeps the contract of all transports, in bulk and one by one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from mailer_ses.account import Account
from mailer_ses.requests import MESSAGE_ID_HEADER
from mailer_ses.transport import SesTransport

from mailer.testing import Received, TransportContract
from tests.ses.harness import FakeSes, raw


def with_our_message_id(message: bytes) -> bytes:
    """SES writes a Message-ID of its own: ours, which travels beside it, in its place."""
    ours = re.search(rf"^{MESSAGE_ID_HEADER}: (\S+)\r?$".encode(), message, re.MULTILINE)
    assert ours
    return re.sub(rb"(?m)^Message-ID: \S+", b"Message-ID: " + ours[1], message, count=1)


class TestSes(TransportContract):
    @pytest.fixture
    def transport(self, ses: FakeSes, account: Account) -> SesTransport:
        return SesTransport(account)

    @pytest.fixture
    def received(self, ses: FakeSes) -> Received:
        return lambda: [with_our_message_id(raw(mail)) for mail in ses.mails()]

    @pytest.fixture
    def cut_off(self, aws: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
        """A fake of the test's own, to be stopped."""
        fake = FakeSes.start()
        monkeypatch.setenv("AWS_ENDPOINT_URL_SESV2", fake.url)
        yield fake.stop
        fake.stop()


class TestSesOneByOne(TestSes):
    @pytest.fixture
    def transport(self, ses: FakeSes, account: Account) -> SesTransport:
        return SesTransport(replace(account, bulk=False))
