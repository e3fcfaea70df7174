"""The smtp transport: hands mail to the server that SMTP_URL names.

    smtp://[user:password@]host[:587]     STARTTLS, refused when the server doesn't offer it
    smtps://[user:password@]host[:465]    TLS from the first byte
    ?starttls=off      no TLS; only for a server on this machine (localhost, 127.0.0.0/8, ::1)
    ?cafile=PATH       trust these certificate authorities instead of the system's
    ?ehlo=NAME         the name to greet with; this host's, if it has a domain
    ?timeout_s=N       how long a reply may take (1 to 600; 30)

User and password are percent-encoded. Certificates are always verified.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mailer.errors import TransportUnreachable
from mailer.hookspecs import Check, Transport, hookimpl
from mailer.settings import Settings
from mailer.variables import setting
from mailer.vocabulary import CheckResult
from mailer_smtp.server import Server
from mailer_smtp.transport import SmtpTransport

__all__ = [
    "Server", "SmtpSettings", "SmtpTransport", "mailer_checks", "mailer_settings",
    "mailer_transports",
]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class SmtpSettings:
    server: Server | None = setting(
        "SMTP_URL",
        default=None,
        secret=True,
        parse=Server.from_url,
        accepted="smtp://[user:password@]host[:port] (STARTTLS) or smtps://… (TLS);"
        " ?starttls=off (a server on this machine only), ?cafile=PATH, ?ehlo=NAME, ?timeout_s=N",
        doc="The server the smtp transport hands mail to.",
    )


@hookimpl
def mailer_settings() -> type:
    return SmtpSettings


@hookimpl
def mailer_transports(settings: Settings) -> Mapping[str, Transport]:
    server = settings.of(SmtpSettings).server
    return {"smtp": SmtpTransport(server)} if server else {}


@hookimpl
def mailer_checks(settings: Settings) -> Sequence[Check]:
    server = settings.of(SmtpSettings).server
    if server is None:
        return []
    transport = SmtpTransport(server)
    try:
        session = transport.open()
    except TransportUnreachable as error:
        finding = f"{transport.destination} takes no mail from here: {error}"
        advice = "check SMTP_URL (host, port, user and password), the firewall, its certificate"
        return [Check("smtp", CheckResult.FAILURE, finding, advice)]
    encryption = session.encryption
    session.close()
    as_whom = f", logged in as {server.user}" if server.user else ", without a login"
    finding = f"{transport.destination} takes mail{as_whom}, {encryption or 'in the clear'}"
    return [Check("smtp", CheckResult.OK, finding)]
