"""How mails become SES requests. Pure functions.

Several mails go in one `SendBulkEmail` where its fields can carry them, the others each in a
`SendEmail`: in its simple form, or as a whole MIME message where that can't carry them either.
`bulk` says how a body reaches its reader unchanged by SES's templates.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final

from mailer import mime
from mailer.hookspecs import Envelope

REQUEST_ID_TAG: Final = "mailer_request_id"
TOPIC_TAG: Final = "mailer_topic"
MESSAGE_ID_HEADER: Final = "X-Mailer-Message-ID"
"""SES writes a Message-ID of its own into every mail; ours travels beside it."""

MAX_HEADERS: Final = 15
_MAX_HEADER_CHARS: Final = 996
"""Of name and value together, and one less of the value alone."""
_HEADER_VALUE: Final = re.compile(r"[ -~]{1,995}")
_TAG: Final = re.compile(r"[A-Za-z0-9_-]{1,256}")
_BREAKS: Final = re.compile(r"[\r\n\0]")


@dataclass(frozen=True, slots=True)
class Call:
    """One request to SES, and the mails it carries, by their place among those to be sent."""

    operation: str
    request: dict[str, Any]
    places: tuple[int, ...]


def check(envelope: Envelope) -> None:
    """Raises ValueError for what no mail can carry; `mime.build` would do so, too."""
    for name, value in (("Subject", envelope.subject), *envelope.headers):
        if _BREAKS.search(name) or _BREAKS.search(value):
            raise ValueError(f"the header {name[:80]!r} has a line break or NUL in it")
    for text in (envelope.subject, envelope.html, envelope.text):
        if text:
            text.encode()  # a UnicodeEncodeError is a ValueError
    sender(envelope)
    to(envelope)
    reply_to(envelope)


def is_plain(envelope: Envelope) -> bool:
    """Whether SES's own fields can carry it; else it takes a MIME message."""
    headers = envelope.headers
    bodies = [body for body in (envelope.html, envelope.text) if body is not None]
    return (
        not envelope.attachments
        and bool(envelope.subject and bodies)
        and all(bodies)
        and len(headers) < MAX_HEADERS
        and len({name.lower() for name, _ in headers}) == len(headers)
        and all(
            mime.HEADER_NAME.fullmatch(name)
            and name.lower() not in mime.OWN_HEADERS
            and _HEADER_VALUE.fullmatch(value)
            and len(name) + len(value) <= _MAX_HEADER_CHARS
            for name, value in headers
        )
    )


def single(envelope: Envelope, place: int, configuration_set: str | None) -> Call:
    """The mail alone in a SendEmail. Raises ValueError for what no mail can carry."""
    request: dict[str, Any] = {
        "FromEmailAddress": sender(envelope),
        "Destination": {"ToAddresses": [to(envelope)]},
        "EmailTags": tags(envelope),
    }
    if configuration_set:
        request["ConfigurationSetName"] = configuration_set
    if is_plain(envelope):
        bodies = {"Html": envelope.html, "Text": envelope.text}
        request["ReplyToAddresses"] = reply_to(envelope)
        request["Content"] = {
            "Simple": {
                "Subject": _content(envelope.subject),
                "Body": {kind: _content(body) for kind, body in bodies.items() if body},
                "Headers": headers(envelope),
            }
        }
    else:
        own = (*envelope.headers, (MESSAGE_ID_HEADER, envelope.message_id))
        message = mime.build(replace(envelope, headers=own))
        request["Content"] = {"Raw": {"Data": message}}
    return Call("send_email", request, (place,))


def sender(envelope: Envelope) -> str:
    return _mailbox(envelope.from_email)


def to(envelope: Envelope) -> str:
    return mime.mailbox(envelope.recipient_name, envelope.recipient)


def reply_to(envelope: Envelope) -> list[str]:
    return [_mailbox(envelope.reply_to)] if envelope.reply_to else []


@lru_cache(maxsize=64)
def _mailbox(text: str) -> str:
    """Mails of one message share it."""
    return mime.mailbox(*mime.split_mailbox(text))


def headers(envelope: Envelope) -> list[dict[str, str]]:
    named = (*envelope.headers, (MESSAGE_ID_HEADER, envelope.message_id))
    return [{"Name": name, "Value": value} for name, value in named]


def tags(envelope: Envelope) -> list[dict[str, str]]:
    """Our id, by which SES's events are matched, the topic, and the caller's own tags.

    What SES's characters can't say is left out: the caller's mail matters more than its label.
    """
    named = {
        **envelope.tags,
        TOPIC_TAG: envelope.topic_id or "",
        REQUEST_ID_TAG: envelope.request_id,
    }
    return [
        {"Name": name, "Value": value}
        for name, value in named.items()
        if _TAG.fullmatch(name) and _TAG.fullmatch(value)
    ]


def _content(text: str) -> dict[str, str]:
    return {"Data": text, "Charset": "UTF-8"}
