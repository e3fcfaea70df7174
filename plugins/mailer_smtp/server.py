"""Where mail is handed to, as SMTP_URL says it: read, checked, and connected to.

Reading the URL touches no network. Connecting gives a connection on which mail may be sent at
once, encrypted and logged in as the URL asks, or raises OSError (all of smtplib's errors are).
"""

from __future__ import annotations

import smtplib
import socket
import ssl
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

_OPTIONS: Final = frozenset({"starttls", "cafile", "ehlo", "timeout_s"})
_CONNECT_TIMEOUT_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Server:
    """One server and how to speak to it."""

    host: str
    port: int
    tls: ssl.SSLContext | None
    """None: in the clear."""
    tls_from_start: bool
    """False: TLS begins with STARTTLS."""
    user: str | None
    password: str
    ehlo: str
    timeout_s: float
    """How long a reply may take."""

    @classmethod
    def from_url(cls, url: str) -> Server:
        """Read SMTP_URL. Raises ValueError, without the URL's secrets in it."""
        try:
            parts = urlsplit(url)
        except ValueError:  # its words quote the host, which may be the password
            raise ValueError("it is no SMTP URL") from None
        return _read(parts)

    def connect(self, smtp: smtplib.SMTP) -> None:
        """Connect, encrypt, greet and log in. `smtp.sock` is set early, for others to cut."""
        smtp.file = None
        smtp.sock = socket.create_connection(
            (self.host, self.port), min(self.timeout_s, _CONNECT_TIMEOUT_S)
        )
        smtp.sock.settimeout(self.timeout_s)
        smtp.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.tls and self.tls_from_start:
            self._encrypt(smtp, smtp.sock, self.tls)
        code, words = smtp.getreply()
        if code != 220:
            raise smtplib.SMTPConnectError(code, words)
        _greet(smtp)
        if self.tls and not self.tls_from_start:
            if not smtp.has_extn("starttls"):
                raise smtplib.SMTPNotSupportedError("the server does not offer STARTTLS")
            code, words = smtp.docmd("STARTTLS")
            if code != 220:
                raise smtplib.SMTPResponseException(code, words)
            self._encrypt(smtp, smtp.sock, self.tls)
            _greet(smtp)
        if self.user is not None:
            smtp.login(self.user, self.password)

    def _encrypt(self, smtp: smtplib.SMTP, sock: socket.socket, tls: ssl.SSLContext) -> None:
        # What was read ahead came unencrypted, perhaps from somebody else (CVE-2011-0411).
        smtp.file = None
        encrypted = tls.wrap_socket(sock, server_hostname=self.host, do_handshake_on_connect=False)
        smtp.sock = encrypted
        encrypted.do_handshake()


def _greet(smtp: smtplib.SMTP) -> None:
    code, words = smtp.ehlo()
    if code != 250:
        raise smtplib.SMTPHeloError(code, words)


def _read(parts: SplitResult) -> Server:
    if parts.scheme not in {"smtp", "smtps"} or not parts.hostname:
        raise ValueError("it is no SMTP URL")
    if parts.path.strip("/") or parts.fragment:
        raise ValueError("it has a path; a / in a password is written %2F")
    options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    if unknown := sorted(options.keys() - _OPTIONS):
        raise ValueError(f"it has an option {unknown[0]!r} that does not exist")
    from_start = parts.scheme == "smtps"
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    if not (user + password).isascii():
        raise ValueError("user or password has characters outside ASCII")
    return Server(
        host=parts.hostname,
        port=_port(parts) or (465 if from_start else 587),
        tls=_tls(options, parts.hostname, from_start),
        tls_from_start=from_start,
        user=user or None,
        password=password,
        ehlo=options.get("ehlo") or _own_name(),
        timeout_s=_timeout_s(options.get("timeout_s", "30")),
    )


def _port(parts: SplitResult) -> int | None:
    try:
        return parts.port
    except ValueError:  # its words may be the password, when the URL lacks its host
        raise ValueError("its port is no number up to 65535") from None


def _tls(options: dict[str, str], host: str, from_start: bool) -> ssl.SSLContext | None:
    starttls = options.get("starttls", "on")
    if starttls not in {"on", "off"}:
        raise ValueError("its option starttls is neither on nor off")
    if starttls == "on":
        try:
            context = ssl.create_default_context(cafile=options.get("cafile"))
        except OSError as error:
            raise ValueError(f"its cafile can't be used: {error.strerror or error}") from None
        context.minimum_version = ssl.TLSVersion.TLSv1_2  # else it depends on how OpenSSL was built
        return context
    if from_start:
        raise ValueError("starttls=off makes no sense with smtps://")
    if not _is_this_machine(host):
        raise ValueError(f"starttls=off is only for a server on this machine, and {host} is not")
    return None


def _is_this_machine(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _timeout_s(value: str) -> float:
    if not value.isdecimal() or not value.isascii() or not 1 <= int(value) <= 600:
        raise ValueError("its timeout_s is no number from 1 to 600")
    return float(value)


def _own_name() -> str:
    """The name for EHLO; smtplib's own choice asks the DNS, and may wait long for it."""
    name = socket.gethostname()
    return name if "." in name else "[127.0.0.1]"
