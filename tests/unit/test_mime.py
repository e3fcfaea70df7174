"""What is posted arrives: bodies byte for byte, names and subjects in every script.

Built messages are read by `email` and by a splitter of a dozen lines that shares nothing with it.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailer import mime
from mailer.mail import Attachment
from tests.messages import (
    ENVELOPE,
    LINE_SEPARATORS,
    assert_well_formed,
    decoded,
    parse,
    split_headers,
)

ODD_BODIES = [
    "",
    " ",
    "one line",
    "LF\nCRLF\r\nlone CR\rend",
    "trailing  \n\t\n \n",
    "no newline at the end",
    "\n\n\nleading",
    ".\n..\n.leading dots\nFrom somebody\n",
    f"separators {LINE_SEPARATORS} within\n",
    "emoji 😀 ZWJ 👨‍👩‍👧 combining é NUL \0 BOM \ufeff",
    "x" * 100_000,
    "--=_alternative_01jd-1\n",
]


def body_of(message: bytes, kind: str) -> bytes:
    part = parse(message).get_body((kind,))
    assert part is not None
    content = part.get_payload(decode=True)
    assert isinstance(content, bytes)
    return content


@pytest.mark.parametrize("body", ODD_BODIES)
@pytest.mark.parametrize("files", [(), (Attachment("a.bin", "application/pdf", b"\0\r\n\xff"),)])
def test_bodies_arrive_byte_for_byte(body: str, files: tuple[Attachment, ...]) -> None:
    message = mime.build(replace(ENVELOPE, html=body, text=body, attachments=files))
    assert_well_formed(message)
    assert body_of(message, "html") == body.encode()
    assert body_of(message, "plain") == body.encode()


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=500))
def test_any_text_arrives_byte_for_byte(body: str) -> None:
    message = mime.build(replace(ENVELOPE, html=None, text=body))
    assert body_of(message, "plain") == body.encode()


def test_the_same_envelope_gives_the_same_bytes() -> None:
    assert mime.build(ENVELOPE) == mime.build(ENVELOPE)


def test_the_date_is_when_the_mail_was_accepted_unless_told() -> None:
    assert parse(mime.build(ENVELOPE))["Date"] == "Tue, 14 Nov 2023 22:13:20 +0000"
    later = mime.build(ENVELOPE, date_ms=1_800_000_000_000)
    assert parse(later)["Date"] == "Fri, 15 Jan 2027 08:00:00 +0000"


@pytest.mark.parametrize(
    "subject",
    [
        "",
        "plain",
        "Grüße aus Köln",
        "日本語の件名" * 40,
        "😀" * 200,
        "a word " * 100,
        "x" * 998,
        "  spaces   kept  ",
        "=?utf-8?q?looks_encoded?=",
        "tab\tin it",
        *(f"before{char}after" for char in LINE_SEPARATORS),
    ],
)
def test_a_subject_arrives_as_it_was_posted(subject: str) -> None:
    message = mime.build(replace(ENVELOPE, subject=subject))
    assert_well_formed(message)
    assert len(split_headers(message)) == len(split_headers(mime.build(ENVELOPE)))
    assert decoded(message, "Subject") == subject


@pytest.mark.parametrize(
    "name",
    [
        "Ann",
        "Ann O'Neill",
        "O'Brien, Ann (Sales)",
        'Ann "the Great" \\ Lee',
        "Bärbel Müller-Lüdenscheidt",
        "名前" * 40,
        "a@b.example",
        "=?utf-8?q?x?=",
        "x, y" * 60,
        "<evil@example.com>,",
    ],
)
def test_display_names_arrive_and_name_no_second_recipient(name: str) -> None:
    message = mime.build(
        replace(ENVELOPE, recipient_name=name, from_email=f"{name} <shop@example.org>")
    )
    assert_well_formed(message)
    parsed = parse(message)
    assert [a.addr_spec for a in parsed["To"].addresses] == ["ann@example.net"]
    assert [a.addr_spec for a in parsed["From"].addresses] == ["shop@example.org"]
    for field, address in (("To", "ann@example.net"), ("From", "shop@example.org")):
        assert mime.split_mailbox(decoded(message, field)) == (name, address)


@pytest.mark.parametrize(
    ("mailbox", "expected"),
    [
        ("a@b.example", ("", "a@b.example")),
        (" <a@b.example> ", ("", "a@b.example")),
        ("Ann <a@b.example>", ("Ann", "a@b.example")),
        ("Müller, Ann <a@b.example>", ("Müller, Ann", "a@b.example")),
        (r'"Ann \"x\" Lee" <a@b.example>', ('Ann "x" Lee', "a@b.example")),
    ],
)
def test_a_mailbox_is_taken_apart(mailbox: str, expected: tuple[str, str]) -> None:
    assert mime.split_mailbox(mailbox) == expected


def test_callers_headers_arrive_as_given_in_their_order() -> None:
    long_url = f"<https://example.org/unsubscribe?token={'a' * 800}>"
    given_headers = (
        ("X-Campaign", "spring  2026"),
        ("List-Unsubscribe", f"<mailto:u@example.org>, {long_url}"),
        ("X-Note", "Grüße\u2028x"),
        ("X-Campaign", "again"),
    )
    message = mime.build(replace(ENVELOPE, headers=given_headers))
    assert_well_formed(message)
    names = [name for name, _ in given_headers]
    arrived = [(name, value[1:]) for name, value in split_headers(message) if name in names]
    assert arrived[:2] == list(given_headers[:2])
    assert arrived[3] == given_headers[3]
    assert decoded(message, "X-Note") == "Grüße\u2028x"


def test_a_word_too_long_for_a_line_is_refused() -> None:
    with pytest.raises(ValueError, match="too long for a line"):
        mime.build(replace(ENVELOPE, headers=(("X-A", "x" * 1000),)))


def test_attachments_arrive_with_name_type_and_bytes() -> None:
    files = (
        Attachment("report.pdf", "application/pdf", bytes(range(256)) * 50),
        Attachment(
            "Übersicht 日本 😀.csv", "text/csv; charset=iso-8859-1", "ä;ö\r\n".encode("latin-1")
        ),
        Attachment("x" * 255 + "ü" * 40, "application/octet-stream", b""),
        Attachment("forwarded.eml", "message/rfc822", b"Subject: a\r\n\r\nb"),
    )
    message = mime.build(replace(ENVELOPE, attachments=files))
    assert_well_formed(message)
    arrived = list(parse(message).iter_attachments())
    assert [part.get_filename() for part in arrived] == [f.filename for f in files]
    assert [part.get_payload(decode=True) for part in arrived] == [f.content for f in files]
    assert [part.get_content_type() for part in arrived] == [
        "application/pdf",
        "text/csv",
        "application/octet-stream",
        "application/octet-stream",
    ]
    assert arrived[1].get_content_charset() == "iso-8859-1"


@pytest.mark.parametrize("separator", list(LINE_SEPARATORS))
def test_a_file_name_loses_what_is_no_character_of_a_name(separator: str) -> None:
    files = (Attachment(f"a{separator}b.txt", "text/plain", b""),)
    (part,) = parse(mime.build(replace(ENVELOPE, attachments=files))).iter_attachments()
    assert part.get_filename() == "a_b.txt"


def test_an_inline_image_stands_beside_the_html_that_shows_it() -> None:
    html = '<img src="cid:logo@shop">'
    files = (
        Attachment("logo.png", "image/png", b"png", "logo@shop"),
        Attachment("terms.pdf", "application/pdf", b"pdf"),
    )
    parsed = parse(mime.build(replace(ENVELOPE, html=html, attachments=files)))
    assert [part.get_content_type() for part in parsed.walk()] == [
        "multipart/mixed",
        "multipart/alternative",
        "text/plain",
        "multipart/related",
        "text/html",
        "image/png",
        "application/pdf",
    ]
    image = next(part for part in parsed.walk() if part.get_content_type() == "image/png")
    assert image["Content-ID"] == "<logo@shop>"
    assert image.get_content_disposition() == "inline"


def test_an_inline_image_without_html_is_a_file() -> None:
    files = (Attachment("logo.png", "image/png", b"png", "logo"),)
    parsed = parse(mime.build(replace(ENVELOPE, html=None, attachments=files)))
    assert [p.get_content_type() for p in parsed.walk()] == [
        "multipart/mixed",
        "text/plain",
        "image/png",
    ]


def test_html_alone_is_one_part() -> None:
    parsed = parse(mime.build(replace(ENVELOPE, text=None)))
    assert parsed.get_content_type() == "text/html"
    assert not parsed.is_multipart()


def test_one_message_has_each_of_its_headers_once() -> None:
    names = [name for name, _ in split_headers(mime.build(replace(ENVELOPE, reply_to="r@e.org")))]
    assert names == [
        "Date",
        "From",
        "To",
        "Reply-To",
        "Subject",
        "Message-ID",
        "MIME-Version",
        "Content-Type",
    ]
