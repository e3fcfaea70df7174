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

from collections.abc import Mapping

from mailer.hookspecs import Transport, hookimpl
from mailer.settings import Settings
from mailer_smtp.server import Server
from mailer_smtp.transport import SmtpTransport

__all__ = ["Server", "SmtpTransport", "mailer_transports"]


@hookimpl
def mailer_transports(settings: Settings) -> Mapping[str, Transport]:
    if settings.smtp_url is None:
        return {}
    return {"smtp": SmtpTransport(Server.from_url(settings.smtp_url))}
