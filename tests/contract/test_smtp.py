"""What the smtp transport makes of each thing a server can say or fail to say."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from mailer_smtp import Server, SmtpTransport, mailer_transports
from mailer_smtp.transport import MAILS_PER_CONNECTION

from mailer.errors import SettingsError
from mailer.hookspecs import Outcome, Session
from mailer.settings import Settings
from mailer.testing import envelope
from mailer.vocabulary import OutcomeKind
from tests.certificates import Certificates
from tests.smtp_sink import DRIP, DROP, HANG, Script, SmtpSink

PLAIN = ("SIZE 50000000",)
"""What a server without PIPELINING offers."""
PIPELINING = ("PIPELINING", *PLAIN)


@contextmanager
def serving(
    replies: Mapping[str, str | list[str]] | None = None, **script: Any
) -> Iterator[tuple[SmtpSink, SmtpTransport]]:
    with SmtpSink(Script(replies or {}, **script)) as sink:
        yield sink, transport_to(sink)


def transport_to(sink: SmtpSink, more: str = "") -> SmtpTransport:
    url = f"smtp://127.0.0.1:{sink.port}?starttls=off&timeout_s=1{more}"
    return SmtpTransport(Server.from_url(url))


def send(session: Session, number: int = 1, **changes: object) -> Outcome:
    (outcome,) = session.send([envelope(number, **changes)])
    return outcome


def verbs(sink: SmtpSink) -> list[str]:
    return [command.split()[0].upper() for command in sink.commands]


# --- replies


@pytest.mark.parametrize("extensions", [PLAIN, PIPELINING])
@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA", "DOT"])
@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        ("450 4.2.0 greylisted", OutcomeKind.DEFERRED),
        ("452 4.3.1 no room", OutcomeKind.DEFERRED),
        ("421 4.7.0 too many", OutcomeKind.THROTTLED),
        ("550 5.1.1 no such user", OutcomeKind.REJECTED),
        ("554 5.7.1 spam", OutcomeKind.REJECTED),
        ("530 5.7.0 must log in", OutcomeKind.THROTTLED),
    ],
)
def test_a_refusal_is_classified_and_its_words_are_kept(
    verb: str, reply: str, kind: OutcomeKind, extensions: tuple[str, ...]
) -> None:
    # Twice, as a 421 makes the transport try a new connection once.
    with serving({verb: [reply, reply]}, extensions=extensions) as (sink, transport):
        session = transport.open()
        outcome = send(session)
        assert (outcome.kind, outcome.detail) == (kind, reply)
        assert sink.mails == []
        session.close()


@pytest.mark.parametrize("extensions", [PLAIN, PIPELINING])
@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA", "DOT"])
def test_after_a_refusal_the_next_mail_goes_out(verb: str, extensions: tuple[str, ...]) -> None:
    with serving({verb: ["550 5.1.1 no"]}, extensions=extensions) as (sink, transport):
        session = transport.open()
        assert send(session, 1).kind is OutcomeKind.REJECTED
        assert send(session, 2).kind is OutcomeKind.ACCEPTED
        assert [mail.recipients for mail in sink.mails] == [("user2@example.net",)]
        session.close()


def test_an_accepted_mail_carries_the_servers_words_and_the_bare_addresses() -> None:
    with serving() as (sink, transport):
        session = transport.open()
        assert send(session) == Outcome(OutcomeKind.ACCEPTED, "250 2.0.0 ok: queued")
        session.close()
        (mail,) = sink.mails
        assert (mail.sender, mail.recipients) == ("shop@example.org", ("user1@example.net",))


def test_several_lines_of_a_reply_become_one() -> None:
    with serving({"RCPT": "550-5.1.1 no\r\n550 5.1.1 such user"}) as (_, transport):
        assert send(transport.open()).detail == "550 5.1.1 no 5.1.1 such user"


def test_a_mail_over_the_servers_size_is_rejected_unsent() -> None:
    with serving(extensions=("SIZE 5000",)) as (sink, transport):
        session = transport.open()
        outcome = send(session, text="x" * 10_000)
        assert outcome.kind is OutcomeKind.REJECTED
        assert "5.3.4" in outcome.detail
        assert not [c for c in sink.commands if c.startswith("MAIL")]
        assert send(session, 2).kind is OutcomeKind.ACCEPTED


def test_the_size_is_told_where_the_server_asks_for_it() -> None:
    with serving() as (sink, transport):
        send(transport.open())
        (command,) = [c for c in sink.commands if c.startswith("MAIL")]
        assert command == f"MAIL FROM:<shop@example.org> SIZE={len(sink.mails[0].message)}"


def test_lines_that_begin_with_a_dot_arrive() -> None:
    """No body line begins with one in base64; a header's continuation might some day."""
    with serving() as (sink, transport):
        session = transport.open()
        smtp = session._smtp  # the one way to send what `mime` doesn't write
        for command in ("MAIL FROM:<a@b.example>", "RCPT TO:<c@d.example>", "DATA"):
            smtp.docmd(command)
        session._send_data(b"A: b\r\n\r\n.\r\n..x\r\nend\r\n")
        assert sink.mails[0].message == b"A: b\r\n\r\n.\r\n..x\r\nend\r\n"


# --- silence, drops, time-outs


@pytest.mark.parametrize("extensions", [PLAIN, PIPELINING])
@pytest.mark.parametrize("failure", [DROP, HANG, DRIP])
@pytest.mark.parametrize(
    ("verb", "kind"),
    [
        ("MAIL", OutcomeKind.DEFERRED),
        ("RCPT", OutcomeKind.DEFERRED),
        ("DATA", OutcomeKind.DEFERRED),
        ("DOT", OutcomeKind.UNKNOWN),
    ],
)
def test_only_silence_after_the_data_leaves_the_outcome_open(
    verb: str, failure: str, kind: OutcomeKind, extensions: tuple[str, ...]
) -> None:
    with serving({verb: failure}, extensions=extensions) as (_, transport):
        session = transport.open()
        started = time.monotonic()
        outcome = send(session)
        assert outcome.kind is kind
        assert outcome.detail
        assert time.monotonic() - started < transport.call_timeout_s
        session.close()


def test_a_server_that_stops_reading_the_data_leaves_the_outcome_open() -> None:
    with serving(reads_data=False) as (_, transport):
        session = transport.open()
        started = time.monotonic()
        # More than all buffers on the way hold.
        assert send(session, text="x" * 30_000_000).kind is OutcomeKind.UNKNOWN
        assert time.monotonic() - started < transport.call_timeout_s
        session.close()


def test_after_an_open_outcome_the_next_mail_takes_a_new_connection() -> None:
    with serving({"DOT": [DROP]}) as (sink, transport):
        session = transport.open()
        assert send(session, 1).kind is OutcomeKind.UNKNOWN
        assert send(session, 2).kind is OutcomeKind.ACCEPTED
        assert sink.connections == 2
        session.close()


def test_no_reply_at_all_is_not_a_reply() -> None:
    with serving({"DOT": "999 what"}) as (_, transport):
        assert send(transport.open()).kind is OutcomeKind.UNKNOWN


# --- connections


def test_one_connection_serves_many_mails_up_to_its_limit() -> None:
    with serving() as (sink, transport):
        session = transport.open()
        for number in range(MAILS_PER_CONNECTION):
            assert send(session, number).kind is OutcomeKind.ACCEPTED
        assert sink.connections == 1
        assert send(session, MAILS_PER_CONNECTION).kind is OutcomeKind.ACCEPTED
        assert sink.connections == 2
        session.close()
        assert len({mail.message_id for mail in sink.mails}) == MAILS_PER_CONNECTION + 1


@pytest.mark.parametrize("extensions", [PLAIN, PIPELINING])
def test_a_connection_dropped_while_idle_is_made_again(extensions: tuple[str, ...]) -> None:
    with serving(drop_idle_after=1, extensions=extensions) as (sink, transport):
        session = transport.open()
        for number in range(5):
            assert send(session, number).kind is OutcomeKind.ACCEPTED
        assert sink.connections == 5
        assert len(sink.mails) == 5
        session.close()


def test_a_farewell_to_an_idle_connection_is_answered_with_a_new_one() -> None:
    with serving({"MAIL": ["250 ok", "421 4.4.2 idle too long"]}) as (sink, transport):
        session = transport.open()
        assert [send(session, n).kind for n in range(2)] == [OutcomeKind.ACCEPTED] * 2
        assert sink.connections == 2
        session.close()


def test_a_new_connection_is_tried_once_only() -> None:
    with serving({"MAIL": DROP}) as (sink, transport):
        session = transport.open()
        assert send(session).kind is OutcomeKind.DEFERRED
        assert sink.connections == 2
        session.close()


def test_pipelined_data_is_not_sent_when_the_recipient_was_refused() -> None:
    """A server may answer 354 all the same (RFC 2920 section 3.1): nothing must follow."""
    with serving({"RCPT": ["550 5.1.1 no"]}, extensions=PIPELINING) as (sink, transport):
        session = transport.open()
        assert send(session).kind is OutcomeKind.REJECTED
        assert sink.data_bytes == 0
        session.close()


@pytest.mark.parametrize(
    ("replies", "kind"),
    [
        ({"CONNECT": ["220 hello", "554 5.7.1 go away"]}, OutcomeKind.DEFERRED),
        ({"CONNECT": ["220 hello", "421 4.7.0 too many connections"]}, OutcomeKind.THROTTLED),
        ({"CONNECT": ["220 hello", HANG]}, OutcomeKind.DEFERRED),
        ({"CONNECT": ["220 hello", DRIP]}, OutcomeKind.DEFERRED),
        ({"EHLO": ["250 ok", "550 5.7.1 no"]}, OutcomeKind.DEFERRED),
    ],
)
def test_a_failure_to_connect_again_is_no_fault_of_the_mail(
    replies: dict[str, str | list[str]], kind: OutcomeKind
) -> None:
    with serving(replies, drop_idle_after=1) as (sink, transport):
        session = transport.open()
        send(session, 1)
        assert send(session, 2).kind is kind
        assert len(sink.mails) == 1
        session.close()


@pytest.mark.parametrize(
    ("replies", "words"),
    [
        ({"CONNECT": "554 5.7.1 go away"}, "go away"),
        ({"CONNECT": DROP}, "closed"),
        ({"CONNECT": HANG}, "timed out"),
        ({"CONNECT": DRIP}, "222|closed"),
        ({"EHLO": "550 5.7.1 no"}, "5.7.1 no"),
    ],
)
def test_opening_fails_with_the_servers_words_in_bounded_time(
    replies: dict[str, str | list[str]], words: str
) -> None:
    with serving(replies) as (_, transport):
        started = time.monotonic()
        with pytest.raises(OSError, match=words):
            transport.open()
        assert time.monotonic() - started < transport.call_timeout_s


def test_a_closed_session_leaves_no_connection_or_thread_behind() -> None:
    with serving() as (sink, transport):
        before = threading.active_count()
        session = transport.open()
        send(session)
        session.close()
        assert threading.active_count() == before
        wait_until(lambda: "QUIT" in sink.commands)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.005)


# --- encryption and login


def test_starttls_is_required(certificates: Certificates) -> None:
    with SmtpSink() as sink:
        url = f"smtp://localhost:{sink.port}?cafile={certificates.ca_file}"
        with pytest.raises(OSError, match="does not offer STARTTLS"):
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
        with pytest.raises(OSError, match=r"(?i)ssl|certificate|closed"):
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
        with pytest.raises(OSError, match=r"535 5\.7\.8") as caught:
            SmtpTransport(Server.from_url(url)).open()
        assert "wrong" not in str(caught.value)


def test_a_login_refused_later_holds_the_whole_transport_back() -> None:
    """The operator has to mend it: no mail uses up an attempt meanwhile."""
    with SmtpSink(Script(password="right", drop_idle_after=1)) as sink:
        url = f"smtp://user:right@127.0.0.1:{sink.port}?starttls=off"
        session = SmtpTransport(Server.from_url(url)).open()
        assert send(session, 1).kind is OutcomeKind.ACCEPTED
        sink.script.password = "changed"
        outcome = send(session, 2)
        assert outcome.kind is OutcomeKind.THROTTLED
        assert outcome.retry_after_s == 60
        assert "5.7.8" in outcome.detail
        session.close()


# --- SMTP_URL


def test_the_transport_is_there_only_when_it_is_configured() -> None:
    assert mailer_transports(Settings()) == {}
    settings = Settings(smtp_url="smtp://mail.example.org")
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
        mailer_transports(Settings(smtp_url=url))
    assert caught.value.faults[0].name == "SMTP_URL"
    assert "s3cr" not in str(caught.value)
