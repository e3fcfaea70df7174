"""What passes the API's checks can be written as a message, and nothing in it adds a header."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailer import mime
from mailer.api.content import checked
from mailer.api.requests import AttachmentBody, MessageBody
from mailer.vocabulary import Lane
from tests.messages import ENVELOPE, split_headers

NASTY = ["\r", "\n", "\r\n", "\0", "\u2028", "\x85", "\x0b", "\x1c", "\r\n\r\n", "\n.\n"]


def built(**fields: Any) -> bytes | None:
    """The message's bytes; None when the checks refuse it."""
    message = MessageBody(**{"subject": "Hello", "content": "<p>Hello", **fields})
    content, faults = checked(
        message, lane=Lane.BULK, track_opens=True, templated=False, now_ms=0, path="messages[0]"
    )
    if faults:
        return None
    return mime.build(
        replace(
            ENVELOPE,
            subject=content.subject,
            html=content.html,
            from_email=content.from_email or "shop@example.org",
            reply_to=content.reply_to,
            headers=content.headers,
            attachments=content.attachments,
        )
    )


def placed(field: str, text: str) -> dict[str, Any]:
    if field == "header_name":
        return {"headers": {text: "value"}}
    if field == "header_value":
        return {"headers": {"X-Value": text}}
    if field in {"from_", "reply_to"}:
        return {field: f"{text} <shop@example.org>"}
    if field in {"filename", "content_type", "content_id"}:
        good = {"filename": "a.txt", "content": "YQ=="}
        return {"attachments": [AttachmentBody(**{**good, field: text})]}
    return {field: text}


FIELDS = [
    "subject", "header_name", "header_value", "from_", "reply_to", "filename", "content_type",
    "content_id",
]  # fmt: skip


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("nasty", NASTY)
def test_no_field_adds_a_header_or_recipient(field: str, nasty: str) -> None:
    message = built(**placed(field, f"a{nasty}Bcc: evil@example.com{nasty}X-Evil: 1"))

    if message is not None:
        names = {name.lower() for name, _ in split_headers(message)}
        assert not names & {"bcc", "x-evil"}
        assert b"\nBcc:" not in message.partition(b"\r\n\r\n")[0]


@pytest.mark.parametrize("field", FIELDS)
def test_the_control_without_nastiness_is_written(field: str) -> None:
    good = {"header_name": "X-Name", "content_type": "text/plain; charset=utf-8"}

    assert built(**placed(field, good.get(field, "plain"))) is not None


@given(field=st.sampled_from(FIELDS), text=st.text(max_size=200))
def test_whatever_is_accepted_can_be_written(field: str, text: str) -> None:
    built(**placed(field, text))
