"""SMTP_URL, and what it promises: encryption that is verified, a login that is kept secret."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from mailer_smtp import Server, SmtpSettings, SmtpTransport, mailer_transports

from mailer.errors import SettingsError, TransportUnreachable
from mailer.hookspecs import Outcome, Session
from mailer.settings import load
from mailer.testing import envelope
from mailer.vocabulary import OutcomeKind
from tests.certificates import Certificates
from tests.smtp_sink import Script, SmtpSink


def send(session: Session, number: int = 1) -> Outcome:
    (outcome,) = session.send([envelope(number)])
    return outcome


def verbs(sink: SmtpSink) -> list[str]:
    return [command.split()[0].upper() for command in sink.commands]


def test_starttls_is_required(certificates: Certificates) -> None:
    with SmtpSink() as sink:
        url = f"smtp://localhost:{sink.port}?cafile={certificates.ca_file}"
        with pytest.raises(TransportUnreachable, match="does not offer STARTTLS"):
            SmtpTransport(Server.from_url(url)).open()
        assert verbs(sink) == ["EHLO"]


@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
@pytest.mark.parametrize("fault", ["unknown authority", "expired", "another name"])
def test_with_a_certificate_that_does_not_verify_nothing_is_sent(
    scheme: str, fault: str, certificates: Certificates, tmp_path: Path
) -> None:
    tls = certificates.server()
    ca_file = certificates.ca_file
    if fault == "unknown authority":
        ca_file = Certificates.make(tmp_path).ca_file
    elif fault == "expired":
        tls = certificates.server(days=-1)
    else:
        tls = certificates.server("mail.example.org")
    with SmtpSink(Script(password="secret"), tls=tls, implicit_tls=scheme == "smtps") as sink:
        url = f"{scheme}://user:secret@localhost:{sink.port}?cafile={ca_file}&timeout_s=2"
        with pytest.raises(TransportUnreachable, match=r"(?i)ssl|certificate|closed"):
            SmtpTransport(Server.from_url(url)).open()
        assert set(verbs(sink)) <= {"EHLO", "STARTTLS"}


@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
def test_mail_goes_encrypted_and_logged_in(scheme: str, certificates: Certificates) -> None:
    script = Script(password="p@ss/w%rd")
    with SmtpSink(script, tls=certificates.server(), implicit_tls=scheme == "smtps") as sink:
        url = f"{scheme}://user:p%40ss%2Fw%25rd@localhost:{sink.port}?cafile={certificates.ca_file}"
        session = SmtpTransport(Server.from_url(url)).open()
        assert send(session).kind is OutcomeKind.ACCEPTED
        session.close()
        if scheme == "smtp":
            # Nothing but the greeting went in the clear.
            assert verbs(sink)[:2] == ["EHLO", "STARTTLS"]


def test_a_refused_login_does_not_open_and_names_no_password() -> None:
    with SmtpSink(Script(password="right")) as sink:
        url = f"smtp://user:wrong@127.0.0.1:{sink.port}?starttls=off"
        with pytest.raises(TransportUnreachable, match=r"535 5\.7\.8") as caught:
            SmtpTransport(Server.from_url(url)).open()
        assert "wrong" not in str(caught.value)


def test_a_login_refused_later_holds_the_whole_transport_back() -> None:
    """The operator has to mend it: no mail uses up an attempt meanwhile."""
    with SmtpSink(Script(password="right", drop_idle_after=1)) as sink:
        url = f"smtp://user:right@127.0.0.1:{sink.port}?starttls=off"
        session = SmtpTransport(Server.from_url(url)).open()
        assert send(session, 1).kind is OutcomeKind.ACCEPTED
        sink.script.password = "changed"
        with pytest.raises(TransportUnreachable, match=r"5\.7\.8"):
            send(session, 2)
        session.close()


# --- SMTP_URL


def test_the_transport_is_there_only_when_it_is_configured() -> None:
    assert mailer_transports(load({}, of_plugins=[SmtpSettings])) == {}
    settings = load({"SMTP_URL": "smtp://mail.example.org"}, of_plugins=[SmtpSettings])
    assert list(mailer_transports(settings)) == ["smtp"]


@pytest.mark.parametrize(
    ("url", "host", "port", "encrypted"),
    [
        ("smtp://mail.example.org", "mail.example.org", 587, True),
        ("smtps://mail.example.org", "mail.example.org", 465, True),
        ("smtp://mail.example.org:2525", "mail.example.org", 2525, True),
        ("smtp://[::1]:25?starttls=off", "::1", 25, False),
        ("smtp://127.1.2.3:25?starttls=off", "127.1.2.3", 25, False),
        ("smtp://localhost:25/?starttls=off", "localhost", 25, False),
    ],
)
def test_the_url_says_where_and_how(url: str, host: str, port: int, encrypted: bool) -> None:
    server = Server.from_url(url)
    assert (server.host, server.port, server.tls is not None) == (host, port, encrypted)
    if server.tls:
        assert server.tls.verify_mode is ssl.CERT_REQUIRED
        assert server.tls.check_hostname
        assert server.tls.minimum_version >= ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("http://mail.example.org", "no SMTP URL"),
        ("smtp://", "no SMTP URL"),
        ("smtp://user:s3cret@mail.example.org?starttls=off", "only for a server on this machine"),
        ("smtp://10.0.0.1?starttls=off", "only for a server on this machine"),
        ("smtp://localhost.example.org?starttls=off", "only for a server on this machine"),
        ("smtp://localhost?starttls=no", "neither on nor off"),
        ("smtps://localhost?starttls=off", "makes no sense"),
        ("smtp://localhost?tls=off", "option 'tls'"),
        ("smtp://localhost?junk", "bad query field"),
        ("smtp://localhost:99999", "port is no number"),
        ("smtp://user:s3cret", "port is no number"),
        ("smtp://user:s3cret/x@mail.example.org", "has a path"),
        ("smtp://mail.example.org/path", "has a path"),
        ("smtp://user:s3crét@mail.example.org", "outside ASCII"),
        ("smtp://mail.example.org?timeout_s=0", "timeout_s"),
        ("smtp://mail.example.org?timeout_s=1e3", "timeout_s"),
        ("smtp://mail.example.org?cafile=/nowhere.pem", "cafile can't be used"),
    ],
)
def test_a_wrong_url_stops_the_start_without_telling_its_secret(url: str, problem: str) -> None:
    with pytest.raises(SettingsError, match=problem) as caught:
        load({"SMTP_URL": url}, of_plugins=[SmtpSettings])
    assert caught.value.faults[0].name == "SMTP_URL"
    assert "s3cr" not in str(caught.value)
