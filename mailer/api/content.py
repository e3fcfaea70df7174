"""Checks of what the recipients of a message share: subject, headers, tags, attachments, texts.

What passes here can be written as a MIME message: `mailer.mime` refuses none of it, and nothing in
it can add a header or a recipient.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from collections.abc import Callable
from typing import Final

from mailer.api import addresses, times
from mailer.api.requests import AttachmentBody, MessageBody
from mailer.errors import Fault
from mailer.mail import Attachment, Content
from mailer.mime import HEADER_NAME, OWN_HEADERS
from mailer.vocabulary import Lane

MAX_TOPIC_CHARS: Final = 255
MAX_SUBJECT_BYTES: Final = 998
MAX_HEADERS: Final = 50
MAX_HEADER_CHARS: Final = 996
"""Name and value together; 998 are a line's limit (RFC 5322 section 2.1.1)."""
MAX_TAGS: Final = 50
MAX_ATTACHMENTS: Final = 50
MAX_FILENAME_CHARS: Final = 255
MAX_CONTENT_TYPE_CHARS: Final = 255

_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_PRINTABLE: Final = re.compile(r"[ -~]*")
_TAG: Final = re.compile(r"[A-Za-z0-9_-]{1,256}")
_CONTENT_ID: Final = re.compile(r"[!-;=?-~]{1,78}")
_WORD: Final = r"[A-Za-z0-9!#$&^_.+-]+"
_CONTENT_TYPE: Final = re.compile(
    rf'{_WORD}/{_WORD}(?:; ?{_WORD}=(?:{_WORD}|"[A-Za-z0-9 ._+-]*"))*', re.ASCII
)
_RESERVED_PREFIXES: Final = ("content-", "resent-", "arc-", "dkim-", "received", "authentication-")

Report = Callable[[str, str, str], None]
"""Told of a fault: the path below the message, a code, a sentence."""


def checked(
    message: MessageBody, *, lane: Lane, track_opens: bool, templated: bool, now_ms: int, path: str
) -> tuple[Content, list[Fault]]:
    """The content, complete only if there are no faults; what is faulty is None or left out."""
    faults: list[Fault] = []

    def report(field: str, code: str, text: str) -> None:
        faults.append(Fault(f"{path}.{field}", code, text))

    _check_subject(message.subject, report)
    if message.content is None and message.text is None:
        report("content", "missing", "a message has content (HTML), text, or both")
    topic_id = message.topic_id or None
    if topic_id is not None and not is_topic_id(topic_id):
        text = f"at most {MAX_TOPIC_CHARS} characters, no control characters"
        report("topic_id", "topic_invalid", text)
    content = Content(
        subject=message.subject,
        html=message.content,
        text=message.text,
        topic_id=topic_id,
        from_email=_mailbox(message.from_, "from", report),
        reply_to=_mailbox(message.reply_to, "reply_to", report),
        headers=_headers(message.headers or {}, report),
        tags=_tags(message.tags or {}, report),
        attachments=_attachments(message.attachments or [], report),
        lane=message.lane or lane,
        track_opens=track_opens if message.track_opens is None else message.track_opens,
        track_clicks=bool(message.track_clicks),
        templated=templated,
        expires_at_ms=_expires_at(message.expires_at, now_ms, report),
    )
    return content, faults


def is_topic_id(text: str) -> bool:
    """Whether mail can be labelled with it."""
    return 0 < len(text) <= MAX_TOPIC_CHARS and not _CONTROLS.search(text)


def _check_subject(subject: str | None, report: Report) -> None:
    if subject is None:  # reported when it was parsed
        return
    if "\r" in subject or "\n" in subject or "\0" in subject:
        report("subject", "subject_invalid", "a subject is one line, without NUL")
    if len(subject.encode()) > MAX_SUBJECT_BYTES:
        report("subject", "subject_too_long", f"at most {MAX_SUBJECT_BYTES} bytes")


def _mailbox(text: str | None, field: str, report: Report) -> str | None:
    if not text:
        return None
    try:
        return addresses.mailbox(text)
    except addresses.AddressError as error:
        report(field, error.code, str(error))
        return None


def _headers(headers: dict[str, str], report: Report) -> tuple[tuple[str, str], ...]:
    if len(headers) > MAX_HEADERS:
        report("headers", "too_many", f"at most {MAX_HEADERS}")
    seen: set[str] = set()
    for name, value in headers.items():
        where = f"headers.{name[:80]}"
        lower = name.lower()
        if not HEADER_NAME.fullmatch(name):
            report(
                where, "header_name_invalid", "1 to 76 printable ASCII characters but : and space"
            )
        elif lower in OWN_HEADERS or lower.startswith(_RESERVED_PREFIXES):
            report(where, "header_reserved", "mailer or the servers of the way write this header")
        elif lower in seen:
            report(where, "header_twice", "header names don't differ by case")
        seen.add(lower)
        if value is None:
            continue
        if not _PRINTABLE.fullmatch(value):
            report(where, "header_value_invalid", "printable ASCII on one line")
        if len(name) + len(value) > MAX_HEADER_CHARS:
            report(where, "header_too_long", f"at most {MAX_HEADER_CHARS} with its name")
    return tuple(headers.items())


def _tags(tags: dict[str, str], report: Report) -> dict[str, str]:
    if len(tags) > MAX_TAGS:
        report("tags", "too_many", f"at most {MAX_TAGS}")
    for name, value in tags.items():
        if not (_TAG.fullmatch(name) and _TAG.fullmatch(value)):
            text = "name and value are 1 to 256 of A-Z a-z 0-9 _ -"
            report(f"tags.{name[:80]}", "tag_invalid", text)
    return tags


def _attachments(bodies: list[AttachmentBody], report: Report) -> tuple[Attachment, ...]:
    if len(bodies) > MAX_ATTACHMENTS:
        report("attachments", "too_many", f"at most {MAX_ATTACHMENTS}")
    attachments = []
    content_ids: set[str] = set()
    for n, body in enumerate(bodies[:MAX_ATTACHMENTS]):
        if body is None or body.filename is None or body.content is None:
            continue  # reported when it was parsed
        where = f"attachments[{n}]"
        _check_attachment(body, where, report)
        if body.content_id:
            if body.content_id in content_ids:
                report(f"{where}.content_id", "content_id_twice", "another attachment has it")
            content_ids.add(body.content_id)
        try:
            content = b64decode(body.content, validate=True)
        except (binascii.Error, ValueError):
            report(f"{where}.content", "base64_invalid", "not base64 (RFC 4648 section 4, padded)")
            continue
        content_type = body.content_type or "application/octet-stream"
        attachments.append(
            Attachment(body.filename, content_type, content, body.content_id or None)
        )
    return tuple(attachments)


def _check_attachment(body: AttachmentBody, where: str, report: Report) -> None:
    name = body.filename
    if (
        not name
        or len(name) > MAX_FILENAME_CHARS
        or _CONTROLS.search(name)
        or {"/", "\\"} & {*name}
    ):
        text = f"1 to {MAX_FILENAME_CHARS} characters, no slashes or control characters"
        report(f"{where}.filename", "filename_invalid", text)
    kind = body.content_type
    if kind and (len(kind) > MAX_CONTENT_TYPE_CHARS or not _CONTENT_TYPE.fullmatch(kind)):
        report(f"{where}.content_type", "content_type_invalid", "not a media type as image/png")
    if body.content_id and not _CONTENT_ID.fullmatch(body.content_id):
        text = "1 to 78 printable ASCII characters, no spaces or angle brackets"
        report(f"{where}.content_id", "content_id_invalid", text)


def _expires_at(text: str | None, now_ms: int, report: Report) -> int | None:
    if not text:
        return None
    try:
        expires_at_ms = times.parse(text, now_ms=now_ms)
    except times.TimeError as error:
        report("expires_at", error.code, str(error))
        return None
    if expires_at_ms <= now_ms:
        report("expires_at", "expired", "is in the past: nothing would be sent")
    return expires_at_ms
