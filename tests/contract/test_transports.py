"""The transports of this repository keep the contract, and each its own promises beyond it."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from mailer_maildir import MaildirTransport
from mailer_smtp import Server, SmtpTransport

from mailer.hookspecs import Transport
from mailer.testing import Received, TransportContract
from tests.certificates import Certificates
from tests.smtp_sink import SmtpSink


class TestMaildir(TransportContract):
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return tmp_path / "maildir"

    @pytest.fixture
    def transport(self, path: Path) -> Transport:
        return MaildirTransport(path)

    @pytest.fixture
    def received(self, path: Path) -> Received:
        def read() -> list[bytes]:
            files = sorted((path / "new").iterdir(), key=lambda file: file.stat().st_mtime_ns)
            return [file.read_bytes() for file in files]

        return read

    @pytest.fixture
    def cut_off(self, path: Path) -> Callable[[], None]:
        def replace_by_file() -> None:
            shutil.rmtree(path, ignore_errors=True)
            path.write_text("not a directory")

        return replace_by_file


class TestSmtp(TransportContract):
    @pytest.fixture
    def sink(self) -> Iterator[SmtpSink]:
        with SmtpSink() as sink:
            yield sink

    @pytest.fixture
    def transport(self, sink: SmtpSink) -> Transport:
        return SmtpTransport(Server.from_url(f"smtp://127.0.0.1:{sink.port}?starttls=off"))

    @pytest.fixture
    def received(self, sink: SmtpSink) -> Received:
        return lambda: [mail.message for mail in sink.mails]

    @pytest.fixture
    def cut_off(self, sink: SmtpSink) -> Callable[[], None]:
        return sink.shut


class TestSmtpOverTls(TestSmtp):
    @pytest.fixture
    def sink(self, certificates: Certificates) -> Iterator[SmtpSink]:
        with SmtpSink(tls=certificates.server(), implicit_tls=True) as sink:
            yield sink

    @pytest.fixture
    def transport(self, sink: SmtpSink, certificates: Certificates) -> Transport:
        url = f"smtps://localhost:{sink.port}?cafile={certificates.ca_file}"
        return SmtpTransport(Server.from_url(url))


class Aiosmtpd(Controller):
    """aiosmtpd on a free port."""

    def _trigger_server(self) -> None:
        assert isinstance(self.server, asyncio.Server)
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()  # type: ignore[no-untyped-call]


def check_login(*asked: object) -> AuthResult:
    return AuthResult(success=asked[-1] == LoginPassword(b"us@er", b"p/w%"))


class TestSmtpToAiosmtpd(TransportContract):
    """The same against a server that is not our own, with STARTTLS and a login."""

    @pytest.fixture
    def mails(self) -> list[bytes]:
        return []

    @pytest.fixture
    def server(self, certificates: Certificates, mails: list[bytes]) -> Iterator[Aiosmtpd]:
        class Keep:
            async def handle_DATA(  # noqa: N802 - aiosmtpd's name
                self, server: SMTP, session: Session, mail: Envelope
            ) -> str:
                assert isinstance(mail.content, bytes)
                mails.append(mail.content)
                return "250 2.0.0 kept"

        controller = Aiosmtpd(
            Keep(),
            hostname="127.0.0.1",
            port=0,
            tls_context=certificates.server(),
            require_starttls=True,
            auth_required=True,
            authenticator=check_login,
        )
        controller.start()
        yield controller
        if not controller.loop.is_closed():
            controller.stop(no_assert=True)

    @pytest.fixture
    def transport(self, server: Aiosmtpd, certificates: Certificates) -> Transport:
        url = f"smtp://us%40er:p%2Fw%25@localhost:{server.port}?cafile={certificates.ca_file}"
        return SmtpTransport(Server.from_url(url))

    @pytest.fixture
    def received(self, mails: list[bytes]) -> Received:
        return lambda: mails

    @pytest.fixture
    def cut_off(self, server: Aiosmtpd) -> Callable[[], None]:
        return lambda: server.stop(no_assert=True)
