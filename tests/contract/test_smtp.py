"""What the smtp transport makes of each thing a server can say or fail to say."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from mailer_smtp import Server, SmtpTransport
from mailer_smtp.transport import MAILS_PER_CONNECTION

from mailer.errors import TransportUnreachable
from mailer.hookspecs import Outcome, Session
from mailer.testing import envelope
from mailer.vocabulary import OutcomeKind
from tests.smtp_sink import DRIP, DROP, HANG, Script, SmtpSink

PLAIN = ("SIZE 50000000",)
"""What a server without PIPELINING offers."""
PIPELINING = ("PIPELINING", *PLAIN)
SHORT_S = 0.5
"""A time-out short enough to wait for, and long enough for a busy machine to answer in."""


@contextmanager
def serving(
    replies: Mapping[str, str | list[str]] | None = None,
    *,
    timeout_s: float = 10,
    **script: Any,
) -> Iterator[tuple[SmtpSink, SmtpTransport]]:
    with SmtpSink(Script(replies or {}, **script)) as sink:
        server = Server.from_url(f"smtp://127.0.0.1:{sink.port}?starttls=off")
        yield sink, SmtpTransport(replace(server, timeout_s=timeout_s))


def send(session: Session, number: int = 1, **changes: object) -> Outcome:
    (outcome,) = session.send([envelope(number, **changes)])
    return outcome


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


@pytest.mark.parametrize("extensions", [PLAIN, PIPELINING])
@pytest.mark.parametrize(
    ("verb", "reply"),
    [
        ("MAIL", "354 go on"),
        ("RCPT", "354 go on"),
        ("RCPT", "220 hello"),
        ("DATA", "250 2.0.0 ok"),
        ("DATA", "25"),
        ("DATA", "what?"),
    ],
)
def test_a_reply_out_of_place_is_never_taken_for_success(
    verb: str, reply: str, extensions: tuple[str, ...]
) -> None:
    with serving({verb: reply}, extensions=extensions) as (sink, transport):
        session = transport.open()
        assert send(session).kind is OutcomeKind.DEFERRED
        assert (sink.data_bytes, sink.mails) == (0, [])
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
    with serving({verb: failure}, timeout_s=SHORT_S, extensions=extensions) as (_, transport):
        session = transport.open()
        started = time.monotonic()
        outcome = send(session)
        assert outcome.kind is kind
        assert outcome.detail
        assert time.monotonic() - started < transport.call_timeout_s
        session.close()


@pytest.mark.alone
def test_a_server_that_stops_reading_the_data_leaves_the_outcome_open() -> None:
    with serving(reads_data=False, timeout_s=SHORT_S) as (_, transport):
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
    replies: dict[str, str | list[str]] = {"RCPT": ["550 5.1.1 no"], "DATA": ["354 go on"]}
    with serving(replies, extensions=PIPELINING) as (sink, transport):
        session = transport.open()
        assert send(session, 1).kind is OutcomeKind.REJECTED
        assert sink.commands[-1] == "DATA"
        assert send(session, 2).kind is OutcomeKind.ACCEPTED
        assert sink.connections == 2
        session.close()


@pytest.mark.parametrize(
    "replies",
    [
        {"CONNECT": ["220 hello", "554 5.7.1 go away"]},
        {"CONNECT": ["220 hello", "421 4.7.0 too many connections"]},
        {"CONNECT": ["220 hello", HANG]},
        {"CONNECT": ["220 hello", DRIP]},
        {"EHLO": ["250 ok", "550 5.7.1 no"]},
    ],
)
def test_a_failure_to_connect_again_is_no_fault_of_the_mail(
    replies: dict[str, str | list[str]],
) -> None:
    with serving(replies, drop_idle_after=1, timeout_s=SHORT_S) as (sink, transport):
        session = transport.open()
        send(session, 1)
        with pytest.raises(TransportUnreachable):
            send(session, 2)
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
    with serving(replies, timeout_s=SHORT_S) as (_, transport):
        started = time.monotonic()
        with pytest.raises(TransportUnreachable, match=words):
            transport.open()
        assert time.monotonic() - started < transport.call_timeout_s


def test_a_closed_session_leaves_no_connection_or_thread_behind() -> None:
    with serving() as (sink, transport):
        before = threading.active_count()
        session = transport.open()
        send(session)
        session.close()
        wait_until(lambda: threading.active_count() == before and "QUIT" in sink.commands)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.005)
