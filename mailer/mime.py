"""Writes an envelope as RFC 5322 bytes: the same envelope gives the same bytes every time.

The body's structure is the standard library's `email`, every leaf in base64, so that decoded
bodies are byte for byte what was posted. The header lines are written here: `email` takes
U+2028, U+0085, VT, FF and FS to RS for line ends and refuses or cuts a subject that has one.
"""

from __future__ import annotations

import re
from base64 import b64encode, encodebytes
from collections.abc import Sequence
from datetime import UTC, datetime
from email.message import Message, MIMEPart
from email.policy import SMTP, compat32
from email.utils import format_datetime
from typing import Final

from mailer.hookspecs import Envelope
from mailer.mail import Attachment

OWN_HEADERS: Final = frozenset(
    {
        "bcc", "cc", "content-disposition", "content-id", "content-transfer-encoding",
        "content-type", "date", "from", "message-id", "mime-version", "reply-to", "return-path",
        "sender", "subject", "to",
    }
)  # fmt: skip
"""Headers (lower case) a caller may not set: mailer writes them, or they name recipients."""

HEADER_NAME: Final = re.compile(r"[!-9;-~]{1,76}")
"""RFC 5322 section 3.6.8, and short enough for the line it begins."""

_LEAN: Final = compat32.clone(linesep="\r\n")
"""Six times as fast as SMTP, which parses every header again; but it can't fold file names."""
_REQUEST_ID: Final = re.compile(r"[0-9a-z-]{1,50}")
"""It becomes part of boundaries, which have at most 70 characters (RFC 2046 section 5.1.1)."""
_LINE_CHARS: Final = 76
_MAX_LINE_CHARS: Final = 998
_BREAKS: Final = re.compile(r"[\r\n\0]")
_PLAIN: Final = re.compile(r"[\t -~]*")
_ADDRESS: Final = re.compile(
    r"""(?:[A-Za-z0-9.!\#$%&'*+/=?^_`{|}~-]+ | "(?:[!\#-\[\]-~]|\\[!-~])+")
        @ (?:[A-Za-z0-9._-]+ | \[[A-Za-z0-9.:]+\])""",
    re.VERBOSE,
)
_ATOMS: Final = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~ -]+")


def build(envelope: Envelope, *, date_ms: int | None = None) -> bytes:
    """Write the whole message, lines ended by CRLF; `date_ms` defaults to `created_at_ms`.

    Raises ValueError for a CR, LF or NUL in any header or file name, for a header only mailer
    may write, and for an address or value that no header can carry.
    """
    if not _REQUEST_ID.fullmatch(envelope.request_id):
        raise ValueError("the request id has other characters than 0-9, a-z and -, or too many")
    written_ms = envelope.created_at_ms if date_ms is None else date_ms
    date = datetime.fromtimestamp(written_ms / 1000, UTC)
    lines = [
        _structured("Date", format_datetime(date)),
        _structured("From", mailbox(*split_mailbox(envelope.from_email))),
        _structured("To", mailbox(envelope.recipient_name, envelope.recipient)),
    ]
    if envelope.reply_to:
        lines.append(_structured("Reply-To", mailbox(*split_mailbox(envelope.reply_to))))
    lines += [
        _text("Subject", envelope.subject),
        _structured("Message-ID", envelope.message_id),
        *(_callers(name, value) for name, value in envelope.headers),
        "MIME-Version: 1.0\r\n",
    ]
    policy = SMTP if envelope.attachments else _LEAN
    return "".join(lines).encode("ascii") + _body(envelope).as_bytes(policy=policy)


def split_mailbox(mailbox: str) -> tuple[str, str]:
    """Take `Name <address>` or a bare address apart: (name, address)."""
    name, bracket, address = mailbox.rpartition("<")
    if not bracket:
        return "", mailbox.strip()
    name = name.strip()
    if len(name) > 1 and name[0] == name[-1] == '"':
        name = re.sub(r"\\(.)", r"\1", name[1:-1])
    return name, address.strip().removesuffix(">").strip()


def mailbox(name: str, address: str) -> str:
    """Write `name <address>` as a header has it: the reverse of `split_mailbox`.

    Raises ValueError for what is no address in ASCII.
    """
    if not _ADDRESS.fullmatch(address):
        raise ValueError("an address has characters that no header can carry")
    _refuse_breaks("a name", name)
    name = name.strip()
    if not name:
        return address
    if _ATOMS.fullmatch(name) and "=?" not in name:
        return f"{name} <{address}>"
    if _PLAIN.fullmatch(name) and "=?" not in name and len(name) < _LINE_CHARS // 2:
        escaped = re.sub(r'(["\\])', r"\\\1", name)
        return f'"{escaped}" <{address}>'
    return f"{_encoded_words(name, _LINE_CHARS // 2)} <{address}>".replace("\r\n", "")


def _body(envelope: Envelope) -> Message:
    """Text and HTML as alternatives, what the HTML shows inline beside it, files around all."""
    inline = [a for a in envelope.attachments if a.content_id and envelope.html is not None]
    files = [a for a in envelope.attachments if not (a.content_id and envelope.html is not None)]
    parts = []
    if envelope.text is not None or envelope.html is None:
        parts.append(_text_part("plain", envelope.text or ""))
    if envelope.html is not None:
        html = _text_part("html", envelope.html)
        shown = [_attachment(a, "inline") for a in inline]
        parts.append(_multipart(envelope, "related", [html, *shown]))
    whole = _multipart(envelope, "alternative", parts)
    return _multipart(envelope, "mixed", [whole, *(_attachment(a, "attachment") for a in files)])


def _multipart(envelope: Envelope, subtype: str, parts: Sequence[Message]) -> Message:
    """Wrap several parts; one alone needs no wrapping."""
    if len(parts) == 1:
        return parts[0]
    multipart = Message()
    # Base64 has no `_`, so this boundary is in no part; `=_` is in no header line either.
    multipart["Content-Type"] = f'multipart/{subtype}; boundary="=_{subtype}_{envelope.request_id}"'
    multipart.set_payload(list(parts))
    return multipart


def _text_part(subtype: str, body: str) -> Message:
    part = Message()
    part["Content-Type"] = f'text/{subtype}; charset="utf-8"'
    part["Content-Transfer-Encoding"] = "base64"
    part.set_payload(encodebytes(body.encode()).decode("ascii"))
    return part


def _attachment(attachment: Attachment, disposition: str) -> MIMEPart:
    _refuse_breaks("the file name of an attachment", attachment.filename)
    _refuse_breaks("the content type of an attachment", attachment.content_type)
    declared = MIMEPart(policy=SMTP)
    declared["Content-Type"] = attachment.content_type
    kind, subtype = declared.get_content_type().split("/")
    if kind in {"multipart", "message"}:  # RFC 2046 forbids base64 for these
        kind, subtype = "application", "octet-stream"
    part = MIMEPart(policy=SMTP)
    part.set_content(
        attachment.content,
        kind,
        subtype,
        cte="base64",
        disposition=disposition,
        filename=_visible(attachment.filename),
        params={k: v for k, v in declared["Content-Type"].params.items() if kind == "text"},
    )
    if attachment.content_id:
        part["Content-ID"] = f"<{_word('a content id', attachment.content_id.strip('<>'))}>"
    return part


def _visible(filename: str) -> str:
    """Replace what is no character of a name; `email` would break lines at some of them."""
    return "".join(char if char.isprintable() else "_" for char in filename)


def _callers(name: str, value: str) -> str:
    if not HEADER_NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not a header name")
    if name.lower() in OWN_HEADERS:
        raise ValueError(f"the header {name} is written by mailer alone")
    if _PLAIN.fullmatch(value):
        return _structured(name, value)
    return _text(name, value)


def _text(name: str, value: str) -> str:
    """Write a header of free text; all but short plain ASCII as encoded words (RFC 2047)."""
    _refuse_breaks(name, value)
    plain = _PLAIN.fullmatch(value) and "=?" not in value and value == value.strip()
    if plain and max(map(len, value.split(" "))) < _LINE_CHARS - len(name):
        return _structured(name, value)
    return f"{name}: {_encoded_words(value, _LINE_CHARS - len(name) - 2)}\r\n"


def _structured(name: str, value: str) -> str:
    """Write a header, folded at single spaces so that unfolding gives the value back.

    Raises ValueError when a word is too long for any line (RFC 5322 section 2.1.1).
    """
    if not _PLAIN.fullmatch(value):
        raise ValueError(f"{name} has a line break or a character that is no plain ASCII")
    first, *words = value.split(" ")
    line, lines = f"{name}: {first}", []
    for word in words:
        # A line must not be all space: that would end the header for some readers.
        if word and line.strip() and len(line) + len(word) >= _LINE_CHARS:
            lines.append(line)
            line = ""
        line += f" {word}"
    lines.append(line)
    if max(map(len, lines)) > _MAX_LINE_CHARS:
        raise ValueError(f"the header {name} has a word too long for a line")
    return "\r\n".join(lines) + "\r\n"


def _encoded_words(value: str, room: int) -> str:
    """Encode as RFC 2047 words of whole characters, each at most `room` long, folded."""
    room_bytes = max(room - len("=?utf-8?b??="), 8) // 4 * 3
    chunks, chunk = [], b""
    for char in value:
        encoded = char.encode()
        if len(chunk) + len(encoded) > room_bytes:
            chunks.append(chunk)
            chunk = b""
        chunk += encoded
    chunks.append(chunk)
    return "\r\n ".join(f"=?utf-8?b?{b64encode(c).decode('ascii')}?=" for c in chunks)


def _word(what: str, value: str) -> str:
    if not re.fullmatch(r"[!-;=?-~]{1,900}", value):
        raise ValueError(f"{what} is not plain ASCII without spaces")
    return value


def _refuse_breaks(what: str, value: str) -> None:
    if _BREAKS.search(value):
        raise ValueError(f"{what} has a line break or NUL in it")
