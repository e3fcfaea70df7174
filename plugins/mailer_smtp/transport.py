"""Hands one mail at a time to an SMTP server, and says truly what became of it.

Until the server has asked for the data (354), nothing can have been taken: whatever fails there
is safe to try again. From then until its reply, a failure leaves the outcome unknown.
"""

from __future__ import annotations

import smtplib
import socket
import ssl
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final

from mailer import mime
from mailer.errors import TransportUnreachable
from mailer.hookspecs import Envelope, Outcome, Quota
from mailer.vocabulary import OutcomeKind
from mailer_smtp.server import Server

MAILS_PER_CONNECTION: Final = 100
AUTH_RETRY_S: Final = 60.0
"""A refused login is the operator's to mend: no mail uses up an attempt meanwhile."""

_AUTH_CODES: Final = frozenset({530, 534, 535, 538})
_CLOSING: Final = 421
_EXPECTED: Final = ((250,), (250, 251, 252), (354,))
"""Replies to MAIL, RCPT and DATA that let the mail go on."""


class SmtpTransport:
    """One server; connections are kept open and used again."""

    batch_size = 1
    max_in_flight = 16
    reports_events = False

    def __init__(self, server: Server) -> None:
        self.server = server
        self.destination = f"{server.host} port {server.port}"
        # A call ends itself after two replies' time; connecting again may come on top.
        self.call_timeout_s = 4 * server.timeout_s

    def open(self) -> SmtpSession:
        session = SmtpSession(self.server)
        session.connect()
        return session

    def quota(self) -> Quota:
        return Quota()


class SmtpSession:
    """One connection, made again when the server has dropped it."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._smtp = smtplib.SMTP(local_hostname=server.ehlo, timeout=server.timeout_s)
        self._mails = 0
        self._late = False

    def connect(self) -> None:
        """Raises TransportUnreachable when the server can't be reached, trusted or logged in to."""
        try:
            with self._cut_when_late():
                self._connect()
        except OSError as error:
            raise TransportUnreachable(_problem(error)) from None

    @property
    def encryption(self) -> str | None:
        """The version of TLS, as `TLSv1.3`; None in the clear."""
        sock = self._smtp.sock
        return sock.version() if isinstance(sock, ssl.SSLSocket) else None

    def send(self, envelopes: Sequence[Envelope]) -> Sequence[Outcome]:
        return [self._send(envelope) for envelope in envelopes]

    def close(self) -> None:
        with suppress(OSError):
            self._smtp.send("QUIT\r\n")
        self._drop()

    def _send(self, envelope: Envelope) -> Outcome:
        try:
            message = mime.build(envelope)
        except ValueError as error:
            return Outcome(OutcomeKind.REJECTED, str(error))
        _, sender = mime.split_mailbox(envelope.from_email)
        try:
            with self._cut_when_late():
                return self._deliver(sender, envelope.recipient, message)
        except OSError as error:
            self._drop()
            return Outcome(OutcomeKind.DEFERRED, f"{error}")

    def _deliver(self, sender: str, recipient: str, message: bytes) -> Outcome:
        """Send on the open connection, or on a new one when the server has let it go."""
        if self._smtp.sock is not None:
            try:
                return self._transaction(sender, recipient, message, reused=True)
            except smtplib.SMTPServerDisconnected as error:
                if self._late or isinstance(error.__context__, TimeoutError):
                    raise
            self._drop()
        try:
            self._connect()
        except OSError as error:
            # It is about us, not the mail: all of it waits until the server lets us in again.
            raise TransportUnreachable(_problem(error)) from None
        return self._transaction(sender, recipient, message, reused=False)

    def _transaction(self, sender: str, recipient: str, message: bytes, *, reused: bool) -> Outcome:
        """Send one mail. Raises OSError only while nothing of it can have been taken."""
        features = self._smtp.esmtp_features
        limit = features.get("size", "")
        if limit.isdecimal() and 0 < int(limit) < len(message):
            words = f"552 5.3.4 the mail has {len(message)} bytes, the server takes {limit}"
            return Outcome(OutcomeKind.REJECTED, words)
        size = f" SIZE={len(message)}" if "size" in features else ""
        replies = self._say([f"MAIL FROM:<{sender}>{size}", f"RCPT TO:<{recipient}>", "DATA"])
        refused = next(
            (r for r, ok in zip(replies, _EXPECTED, strict=False) if r[0] not in ok), None
        )
        if refused is None:
            return self._send_data(message)
        last, words_of_last = replies[-1]
        if last == _CLOSING and reused:
            # Servers say so, too, when a connection was idle for long: a new one may do.
            raise smtplib.SMTPServerDisconnected(_text(last, words_of_last))
        if 400 <= last <= 599 and last != _CLOSING:
            self._reset()
        else:
            # If the server waits for data, ending it, even empty, could send a mail.
            self._drop()
        return _refusal(*refused)

    def _say(self, commands: Sequence[str]) -> list[tuple[int, bytes]]:
        """Say the commands until one is refused; all in one write where that is allowed."""
        pipelining = self._smtp.has_extn("pipelining")  # RFC 2920
        if pipelining:
            self._smtp.send("".join(f"{command}\r\n" for command in commands))
        replies: list[tuple[int, bytes]] = []
        for command, expected in zip(commands, _EXPECTED, strict=True):
            if not pipelining:
                self._smtp.putcmd(command)
            code, words = self._reply()
            replies.append((code, words))
            if code == _CLOSING or (code not in expected and not pipelining):
                break
        return replies

    def _reply(self) -> tuple[int, bytes]:
        reply = self._smtp.getreply()
        if self._late:
            # smtplib takes a line that was cut off for a whole one.
            raise smtplib.SMTPServerDisconnected("the reply took too long")
        return reply

    def _send_data(self, message: bytes) -> Outcome:
        try:
            self._smtp.send(message.replace(b"\r\n.", b"\r\n..") + b".\r\n")
            code, words = self._reply()
        except OSError as error:
            self._drop()
            return Outcome(OutcomeKind.UNKNOWN, f"no reply after the mail was sent: {error}")
        self._mails += 1
        if self._mails >= MAILS_PER_CONNECTION or code == _CLOSING:
            self.close()
        if 200 <= code <= 299:
            return Outcome(OutcomeKind.ACCEPTED, _text(code, words))
        if 400 <= code <= 599:
            return _refusal(code, words)
        self._drop()
        return Outcome(OutcomeKind.UNKNOWN, f"no SMTP reply after the mail: {_text(code, words)}")

    def _reset(self) -> None:
        """Make the connection ready for the next mail after one was refused."""
        try:
            code, _ = self._smtp.docmd("RSET")
        except OSError:
            code = -1
        if code != 250:
            self._drop()

    def _connect(self) -> None:
        self._mails = 0
        try:
            self._server.connect(self._smtp)
        except UnicodeError as error:  # from a host name that can't be one
            raise OSError(f"{error}") from None
        except OSError:
            self._drop()
            raise

    def _drop(self) -> None:
        with suppress(OSError):
            self._smtp.close()

    @contextmanager
    def _cut_when_late(self) -> Iterator[None]:
        """End the connection under whoever waits: time-outs alone let a server drip for hours."""
        watch = threading.Timer(2 * self._server.timeout_s, self._cut)
        watch.daemon = True
        self._late = False
        watch.start()
        try:
            yield
        finally:
            watch.cancel()

    def _cut(self) -> None:
        self._late = True
        sock = self._smtp.sock
        if sock is not None:
            with suppress(OSError):
                # Not SSLSocket's own, which takes the TLS state away from the waiting thread.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)


def _refusal(code: int, words: bytes | str) -> Outcome:
    """Translate a reply: RFC 5321 section 4.2.1, except where it speaks of us, not of the mail."""
    detail = _text(code, words)
    if code in _AUTH_CODES:
        return Outcome(OutcomeKind.THROTTLED, detail, retry_after_s=AUTH_RETRY_S)
    if code == _CLOSING:
        return Outcome(OutcomeKind.THROTTLED, detail)
    if 500 <= code <= 599:
        return Outcome(OutcomeKind.REJECTED, detail)
    return Outcome(OutcomeKind.DEFERRED, detail)


def _problem(error: OSError) -> str:
    if isinstance(error, smtplib.SMTPResponseException):
        return _text(error.smtp_code, error.smtp_error)
    return str(error)


def _text(code: int, words: bytes | str) -> str:
    if isinstance(words, bytes):
        words = words.decode("utf-8", "replace")
    return f"{code} {' '.join(words.split())}"
