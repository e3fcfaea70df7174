"""Mails as people really send them arrive byte for byte, apart from the open pixel."""

from __future__ import annotations

import re
from email import policy
from email.message import EmailMessage
from email.parser import BytesParser
from html.parser import HTMLParser
from pathlib import Path

import pytest

from mailer import mime
from mailer.compose import Links, compose
from mailer.hookspecs import Envelope
from mailer.mail import Content, Recipient

SAMPLES = Path(__file__).parent.parent / "samples"
HTML = sorted(SAMPLES.glob("*.html"))
TEXT = sorted(SAMPLES.glob("*.txt"))
PIXEL = re.compile(rb'<img src="https://mail\.example\.org/v1/events/open\?request_id=[^>]*>')


def composed(content: Content) -> Envelope:
    return compose(
        content,
        Recipient("ann@example.net", "Ann"),
        request_id="01jd-1",
        created_at_ms=1_700_000_000_000,
        default_from="Shop <shop@example.org>",
        links=Links("https://mail.example.org", b"k" * 32),
    )


def arrived(content: Content, kind: str) -> bytes:
    message = BytesParser(policy=policy.default).parsebytes(mime.build(composed(content)))
    assert isinstance(message, EmailMessage)
    part = message.get_body((kind,))
    assert part is not None
    body = part.get_payload(decode=True)
    assert isinstance(body, bytes)
    return body


def read(path: Path) -> str:
    return path.read_bytes().decode()


def test_there_are_samples_with_placeholders() -> None:
    assert len(HTML) == 5
    assert len(TEXT) == 4
    assert [path.stem for path in HTML if "{{" in read(path)] == [
        "example",
        "password-reset",
        "receipt",
        "welcome",
    ]


def test_a_placeholder_in_every_part_arrives_untouched() -> None:
    content = Content("{{product_name}}", html="<p>{{product_name}}", text="{{product_name}}")
    assert composed(content).subject == "{{product_name}}"
    assert arrived(content, "html").startswith(b"<p>{{product_name}}<img ")
    assert arrived(content, "plain") == b"{{product_name}}"


@pytest.mark.parametrize("path", HTML, ids=lambda path: path.name)
def test_html_arrives_byte_for_byte_apart_from_the_pixel(path: Path) -> None:
    body = arrived(Content("s", html=read(path), text="x"), "html")
    assert len(PIXEL.findall(body)) == 1
    assert PIXEL.sub(b"", body) == path.read_bytes()


@pytest.mark.parametrize("path", HTML, ids=lambda path: path.name)
def test_html_arrives_byte_for_byte_when_opens_are_not_tracked(path: Path) -> None:
    content = Content("s", html=read(path), track_opens=False)
    assert arrived(content, "html") == path.read_bytes()


@pytest.mark.parametrize("path", TEXT, ids=lambda path: path.name)
def test_text_arrives_byte_for_byte(path: Path) -> None:
    html = read(path.with_suffix(".html"))
    assert arrived(Content("s", html=html, text=read(path)), "plain") == path.read_bytes()


class Hrefs(HTMLParser):
    """The `href` of every `<a>`, as a browser reads it."""

    def __init__(self, body: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(body)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.found.append(dict(attrs).get("href") or "")


@pytest.mark.parametrize("path", HTML, ids=lambda path: path.name)
def test_tracked_clicks_change_web_links_and_nothing_else(path: Path) -> None:
    before = read(path)
    after = composed(Content("s", html=before, track_clicks=True, track_opens=False)).html
    assert after is not None
    tracked = "https://mail.example.org/v1/events/click?token="
    for old, new in zip(Hrefs(before).found, Hrefs(after).found, strict=True):
        if old.startswith("http") and "unsubscribe" not in old:
            assert new.startswith(tracked)
        else:
            assert new == old
    rest = re.compile(r'href\s*=\s*("[^"]*"|\'[^\']*\')')
    assert rest.sub("", after) == rest.sub("", before)
