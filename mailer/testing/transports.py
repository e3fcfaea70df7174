"""Contracts that third parties run over their own plugins, as this repository does over its own.

Subclass a contract in a test module and give it the fixtures it asks for.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from email import policy
from email.message import EmailMessage
from email.parser import BytesParser

from mailer.errors import TransportUnreachable
from mailer.hookspecs import Envelope, Outcome, Quota, Session, Transport
from mailer.mail import Attachment
from mailer.vocabulary import OutcomeKind

Received = Callable[[], Sequence[bytes]]
"""Gives the raw messages that have arrived so far."""

ODD_TEXT = "Grüße 😀\nCRLF\r\nlone CR\r trailing  \n.\n..dots\n\u2028 \u0085 end"


def envelope(number: int, **changes: object) -> Envelope:
    """Make a mail that differs from its siblings in id, recipient and subject."""
    mail = Envelope(
        request_id=f"contract-{number}",
        created_at_ms=1_700_000_000_000 + number,
        message_id=f"<contract-{number}@example.org>",
        from_email="Shop & Söhne <shop@example.org>",
        recipient=f"user{number}@example.net",
        recipient_name=f"Jörg {number}",
        subject=f"Nº {number}",
        html=f"<p>{number} {ODD_TEXT}</p>",
        text=f"{number} {ODD_TEXT}",
    )
    return replace(mail, **changes)  # type: ignore[arg-type]


def parse(message: bytes) -> EmailMessage:
    """Read a message as a mail program would."""
    parsed = BytesParser(policy=policy.default).parsebytes(message)
    if not isinstance(parsed, EmailMessage):
        raise TypeError("the parser's policy makes no EmailMessage")
    return parsed


class TransportContract:
    """What every transport owes to the sender.

    Fixtures: `transport`, a Transport whose provider takes everything; `received`, see Received;
    `cut_off`, a function that makes the provider unreachable for the rest of the test.
    """

    def test_it_declares_what_the_sender_plans_with(self, transport: Transport) -> None:
        assert 1 <= transport.batch_size <= 1000
        assert 1 <= transport.max_in_flight <= 1000
        assert 0 < transport.call_timeout_s <= 3600
        assert isinstance(transport.reports_events, bool)
        assert transport.destination

    def test_it_gives_one_outcome_for_each_mail_in_order(
        self, transport: Transport, received: Received
    ) -> None:
        mails = [envelope(n) for n in range(transport.batch_size)]
        session = transport.open()
        outcomes = session.send(mails)
        session.close()
        assert_all_accepted(outcomes, len(mails))
        assert arrived_ids(received) == [mail.message_id for mail in mails]

    def test_bodies_arrive_byte_for_byte(self, transport: Transport, received: Received) -> None:
        mail = envelope(1)
        send_one(transport, mail)
        message = parse(received()[0])
        for kind, body in (("html", mail.html), ("plain", mail.text)):
            part = message.get_body((kind,))
            assert part is not None
            assert body is not None
            assert part.get_payload(decode=True) == body.encode()

    def test_headers_arrive(self, transport: Transport, received: Received) -> None:
        mail = envelope(
            1,
            subject="Überraschung 🎁" * 20,
            reply_to="Büro <office@example.org>",
            headers=(("X-Campaign", "spring"), ("List-Unsubscribe", "<https://example.org/u>")),
        )
        send_one(transport, mail)
        message = parse(received()[0])
        assert message["Subject"] == mail.subject
        assert message["Message-ID"] == mail.message_id
        assert message["X-Campaign"] == "spring"
        assert message["List-Unsubscribe"] == "<https://example.org/u>"
        addresses = [message[name].addresses[0] for name in ("From", "To", "Reply-To")]
        assert [(a.display_name, a.addr_spec) for a in addresses] == [
            ("Shop & Söhne", "shop@example.org"),
            ("Jörg 1", "user1@example.net"),
            ("Büro", "office@example.org"),
        ]

    def test_attachments_arrive_byte_for_byte(
        self, transport: Transport, received: Received
    ) -> None:
        files = (
            Attachment("Übersicht.pdf", "application/pdf", bytes(range(256)) * 100),
            Attachment("logo.png", "image/png", b"\r\n.\r\n", content_id="logo"),
        )
        send_one(transport, envelope(1, attachments=files))
        parts = {part.get_filename(): part for part in parse(received()[0]).walk()}
        for file in files:
            part = parts[file.filename]
            assert part.get_payload(decode=True) == file.content
            assert part.get_content_type() == file.content_type
        assert parts["logo.png"]["Content-ID"] == "<logo>"

    def test_a_mail_tried_again_has_the_same_message_id(
        self, transport: Transport, received: Received
    ) -> None:
        """So that a second copy can be told from a second mail, here and at the receiver's."""
        session = transport.open()
        session.send([envelope(1)])
        session.send([envelope(1)])
        session.close()
        assert set(arrived_ids(received)) == {envelope(1).message_id}

    def test_a_session_serves_a_hundred_calls(
        self, transport: Transport, received: Received
    ) -> None:
        session = transport.open()
        for number in range(100):
            assert_all_accepted(session.send([envelope(number)]), 1)
        session.close()
        assert len(received()) == 100

    def test_a_session_can_be_closed_twice_and_another_opened(
        self, transport: Transport, received: Received
    ) -> None:
        session = transport.open()
        session.close()
        session.close()
        send_one(transport, envelope(1))
        assert len(received()) == 1

    def test_two_sessions_work_in_two_threads(
        self, transport: Transport, received: Received
    ) -> None:
        outcomes: list[Outcome] = []

        def work(session: Session, numbers: range) -> None:
            for number in numbers:
                outcomes.extend(session.send([envelope(number)]))
            session.close()

        threads = [
            threading.Thread(target=work, args=(transport.open(), numbers))
            for numbers in (range(20), range(100, 120))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert_all_accepted(outcomes, 40)
        assert len(set(arrived_ids(received))) == 40

    def test_a_mail_that_cannot_be_written_is_rejected_and_harms_no_other(
        self, transport: Transport, received: Received
    ) -> None:
        broken = envelope(1, subject="two\r\nBcc: evil@example.com")
        session = transport.open()
        outcomes = [*session.send([broken]), *session.send([envelope(2)])]
        session.close()
        assert [o.kind for o in outcomes] == [OutcomeKind.REJECTED, OutcomeKind.ACCEPTED]
        assert arrived_ids(received) == [envelope(2).message_id]

    def test_an_unreachable_provider_is_said_to_be_so(
        self, transport: Transport, cut_off: Callable[[], None]
    ) -> None:
        """As a whole, which costs no attempt, or mail by mail."""
        session = transport.open()
        cut_off()
        mails = [envelope(n) for n in range(transport.batch_size)]
        try:
            outcomes = session.send(mails)
        except TransportUnreachable:
            return
        finally:
            session.close()
        assert [o.kind for o in outcomes] == [OutcomeKind.DEFERRED] * len(mails)
        assert all(outcome.detail for outcome in outcomes)

    def test_open_says_when_the_provider_is_unreachable(
        self, transport: Transport, cut_off: Callable[[], None]
    ) -> None:
        cut_off()
        try:
            transport.open().close()
        except (TransportUnreachable, OSError):
            return
        raise AssertionError("open() succeeded")

    def test_it_tells_its_quota(self, transport: Transport) -> None:
        assert isinstance(transport.quota(), Quota)


def send_one(transport: Transport, mail: Envelope) -> None:
    session = transport.open()
    outcomes = session.send([mail])
    session.close()
    assert_all_accepted(outcomes, 1)


def assert_all_accepted(outcomes: Sequence[Outcome], count: int) -> None:
    assert [outcome.kind for outcome in outcomes] == [OutcomeKind.ACCEPTED] * count, outcomes


def arrived_ids(received: Received) -> list[str]:
    """The Message-IDs in the order of arrival."""
    found = (re.search(rb"^Message-ID: (\S+)", m, re.MULTILINE) for m in received())
    return [match[1].decode() if match else "" for match in found]
