"""A mail to start from, and two readers of built messages that share nothing with each other."""

from __future__ import annotations

import base64
import re
from email import policy
from email.message import EmailMessage
from email.parser import BytesParser

from mailer.hookspecs import Envelope

LINE_SEPARATORS = "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"
"""What `str.splitlines` takes for line ends beside CR and LF."""

ENVELOPE = Envelope(
    request_id="01jd-1",
    created_at_ms=1_700_000_000_123,
    message_id="<01jd-1@example.org>",
    from_email="Shop <shop@example.org>",
    recipient="ann@example.net",
    recipient_name="Ann",
    subject="Hello",
    html="<p>Hello</p>",
    text="Hello",
)


def parse(message: bytes) -> EmailMessage:
    parsed = BytesParser(policy=policy.default).parsebytes(message)
    assert isinstance(parsed, EmailMessage)
    return parsed


def split_headers(message: bytes) -> list[tuple[str, str]]:
    """Split on CRLF alone and unfold, as an SMTP server would."""
    head, _, _ = message.partition(b"\r\n\r\n")
    headers: list[tuple[str, str]] = []
    for line in head.decode("ascii").split("\r\n"):
        if line[0] in " \t":
            name, value = headers.pop()
            headers.append((name, value + line))
        else:
            name, _, value = line.partition(":")
            headers.append((name, value))
    return headers


def assert_well_formed(message: bytes) -> None:
    assert message.isascii()
    assert b"\0" not in message
    assert not re.search(rb"\r(?!\n)|(?<!\r)\n", message)
    assert max(map(len, message.split(b"\r\n"))) <= 998
    head = message.partition(b"\r\n\r\n")[0]
    assert all(line.strip() for line in head.split(b"\r\n"))
    assert [defect for part in parse(message).walk() for defect in part.defects] == []


def decoded(message: bytes, name: str) -> str:
    """Decode RFC 2047 by hand: `email` cuts at U+2028, and parts adjacent words of a name."""
    raw = next(value for field, value in split_headers(message) if field == name)[1:]
    assert all(len(word) <= 75 for word in raw.split() if "=?" in word)
    joined = re.sub(r"(?<=\?=)\s+(?==\?)", "", raw)
    return re.sub(
        r"=\?utf-8\?b\?([A-Za-z0-9+/=]*)\?=",
        lambda word: base64.b64decode(word[1]).decode(),
        joined,
    )
