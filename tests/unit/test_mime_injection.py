"""No field of a mail can add a header or a recipient, whatever is in it and whoever reads it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mailer import mime
from mailer.mail import Attachment
from tests.messages import ENVELOPE, LINE_SEPARATORS, assert_well_formed, parse

BREAKS = ["\r", "\n", "\r\n", "\0"]

INJECTIONS: list[tuple[str, Any]] = [
    ("subject", lambda s: {"subject": f"a{s}Bcc: e@evil.example"}),
    ("recipient name", lambda s: {"recipient_name": f"a{s}Bcc: e@evil.example"}),
    ("recipient", lambda s: {"recipient": f"a@b.example{s}Bcc: e@evil.example"}),
    ("from name", lambda s: {"from_email": f"a{s}Bcc: e@evil.example <a@b.example>"}),
    ("from", lambda s: {"from_email": f"a@b.example{s}Bcc: e@evil.example"}),
    ("reply-to", lambda s: {"reply_to": f"a@b.example{s}Bcc: e@evil.example"}),
    ("reply-to name", lambda s: {"reply_to": f"x{s}Bcc: e@evil.example <a@b.example>"}),
    ("message id", lambda s: {"message_id": f"<a@b>{s}Bcc: e@evil.example"}),
    ("header name", lambda s: {"headers": ((f"X-A{s}Bcc", "e@evil.example"),)}),
    ("header value", lambda s: {"headers": (("X-A", f"a{s}Bcc: e@evil.example"),)}),
    ("file name", lambda s: {"attachments": (Attachment(f"a{s}Bcc: e", "text/plain", b""),)}),
    ("file type", lambda s: {"attachments": (Attachment("a", f"text/plain{s}Bcc: e", b""),)}),
    (
        "content id",
        lambda s: {"attachments": (Attachment("a", "image/png", b"", f"a{s}Bcc: e"),)},
    ),
]


@pytest.mark.parametrize("separator", BREAKS)
@pytest.mark.parametrize(("where", "change"), INJECTIONS)
def test_a_line_break_in_any_field_is_refused(where: str, change: Any, separator: str) -> None:
    with pytest.raises(
        ValueError, match=r"has a line break|no header can|not a header name|not plain"
    ):
        mime.build(replace(ENVELOPE, **change(separator)))


@pytest.mark.parametrize("separator", list(LINE_SEPARATORS))
@pytest.mark.parametrize(("where", "change"), INJECTIONS)
def test_no_separator_in_any_field_adds_a_header(where: str, change: Any, separator: str) -> None:
    """Either refused or made harmless, whichever parser reads it."""
    try:
        message = mime.build(replace(ENVELOPE, **change(separator)))
    except ValueError:
        return
    assert_well_formed(message)
    for part in parse(message).walk():
        assert "bcc" not in {name.lower() for name in part}
    # The strictest reader: every line end that str.splitlines knows.
    assert not [x for x in message.decode("ascii").splitlines() if x.lower().startswith("bcc")]


@pytest.mark.parametrize("name", ["Bcc", "bcc", "To", "From", "Subject", "Content-Type", "Date"])
def test_headers_that_are_not_the_callers_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="by mailer alone"):
        mime.build(replace(ENVELOPE, headers=((name, "x@evil.example"),)))


@pytest.mark.parametrize(
    "address",
    [
        "",
        "a",
        "a@",
        "@b.example",
        "a@b.example,c@d.example",
        'x@y.example,"@b.example',
        'a"b@c.example',
        "a b@c.example",
        "a@b.example>",
        "a@[1.2.3.4",
        "ä@b.example",
        "a@b.example (c)",
    ],
)
def test_what_is_no_single_address_is_refused(address: str) -> None:
    for field in ("recipient", "from_email", "reply_to"):
        if field == "reply_to" and not address:
            continue
        mailbox = f"x <{address}>" if field == "reply_to" else address
        with pytest.raises(ValueError, match="no header can carry"):
            mime.build(replace(ENVELOPE, **{field: mailbox}))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "address", ["a@b", "a.b+c@d-e.example", '"a,b"@c.example', "o'x@b.example", "a@[127.0.0.1]"]
)
def test_unusual_addresses_are_carried(address: str) -> None:
    parsed = parse(mime.build(replace(ENVELOPE, recipient=address)))
    assert [a.addr_spec for a in parsed["To"].addresses] == [address]


@pytest.mark.parametrize("request_id", ["", 'a"b', "a\r\nBcc: e@evil.example", "x" * 51, "Ü"])
def test_a_request_id_that_could_break_a_boundary_is_refused(request_id: str) -> None:
    with pytest.raises(ValueError, match="request id"):
        mime.build(replace(ENVELOPE, request_id=request_id))
