"""Bodies go out as posted; pixel, links, headers and templates change what they say they change."""

from __future__ import annotations

import html
import re
import time
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailer import tokens
from mailer.compose import Links, compose
from mailer.hookspecs import Envelope
from mailer.mail import Attachment, Content, Recipient
from mailer.vocabulary import Lane

KEY = b"k" * 32
LINKS = Links("https://mail.example.org", KEY)
ANN = Recipient("ann@example.net", "Ann")
REQUEST_ID = "01jd-1"
PIXEL = re.compile(r'<img src="[^"]*/v1/events/open\?request_id=([^"]*)"[^>]*>')


def composed(content: Content, recipient: Recipient = ANN) -> Envelope:
    return compose(
        content,
        recipient,
        request_id=REQUEST_ID,
        created_at_ms=1_700_000_000_000,
        default_from="Shop <shop@example.org>",
        links=LINKS,
    )


def composed_html(body: str, **options: Any) -> str:
    envelope = composed(Content("s", html=body, **options))
    assert envelope.html is not None
    return envelope.html


def test_what_the_message_says_is_in_the_envelope() -> None:
    content = Content(
        "Hello",
        "<p>x</p>",
        "x",
        topic_id="news",
        from_email="Other <o@other.example>",
        reply_to="r@other.example",
        headers=(("X-A", "1"),),
        tags={"a": "b"},
        attachments=(Attachment("f", "text/plain", b"1"),),
        track_opens=False,
    )
    assert composed(content) == Envelope(
        request_id=REQUEST_ID,
        created_at_ms=1_700_000_000_000,
        message_id="<01jd-1@other.example>",
        from_email="Other <o@other.example>",
        recipient="ann@example.net",
        recipient_name="Ann",
        subject="Hello",
        html="<p>x</p>",
        text="x",
        reply_to="r@other.example",
        topic_id="news",
        tags={"a": "b"},
        headers=(("X-A", "1"),),
        attachments=(Attachment("f", "text/plain", b"1"),),
    )


def test_the_default_sender_gives_the_message_id_its_domain() -> None:
    envelope = composed(Content("s", text="x"))
    assert envelope.from_email == "Shop <shop@example.org>"
    assert envelope.message_id == "<01jd-1@example.org>"


@pytest.mark.parametrize("text", ["{{ name }}", "{% if %}", "{{#each x}}", "\r\n \r\n\u2028"])
def test_without_data_nothing_is_filled_in(text: str) -> None:
    envelope = composed(Content(text, html=text, text=text, track_opens=False))
    assert (envelope.subject, envelope.html, envelope.text) == (text, text, text)


# --- the open pixel


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("<html><body><p>x</p>", "</body></html>"),
        ("<BODY><p>x</p>", "</BODY\n></HTML>"),
        ("<body><p>an old </body> in the middle</p>", "</body>"),
        ("<html><p>x</p>", "</html>\n"),
        ("<p>x</p>", ""),
        ("", ""),
        ("<body>x", "</body><!-- </body> -->"),
        ("<body>x<!--[if mso]></body><![endif]-->", "</body>"),
        ("<!--[if !mso]><!-->x<!--<![endif]-->", ""),
        ("<p>x</p>", "<!-- never closed </body>"),
        ("<body><script>'</body>'</script>", "</body>"),
        ("<p>x</p>", "<textarea></body>"),
        ("<p>x</p><!-->y", "</body>"),
    ],
)
def test_the_pixel_stands_where_it_is_seen_and_all_else_is_untouched(
    before: str, after: str
) -> None:
    result = composed_html(before + after)
    assert PIXEL.sub("", result) == before + after
    match = PIXEL.search(result)
    assert match is not None
    assert result == before + match[0] + after
    assert tokens.verify(KEY, tokens.OPEN, match[1]) == REQUEST_ID


def test_there_is_no_pixel_without_html_or_when_opens_are_not_tracked() -> None:
    assert composed(Content("s", text="x")).html is None
    assert composed_html("<body></body>", track_opens=False) == "<body></body>"


@given(st.text(st.sampled_from("<>/!-abody html'\"=\n"), max_size=80))
def test_whatever_the_html_only_a_pixel_is_added(body: str) -> None:
    assert PIXEL.sub("", composed_html(body)) == body


@pytest.mark.parametrize(
    "piece", ["<!--", "<script ", "<a ", "<a '", "<a \"'", "</body", "<a href="]
)
def test_a_megabyte_of_broken_markup_costs_less_than_a_second(piece: str) -> None:
    started = time.thread_time()
    composed_html(piece * (1_000_000 // len(piece)), track_clicks=True)
    assert time.thread_time() - started < 1


# --- links


class Hrefs(HTMLParser):
    """What a browser would make of the links."""

    def __init__(self, body: str) -> None:
        super().__init__()
        self.found: list[str | None] = []
        self.feed(body)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.found += [value for name, value in attrs if name == "href"][:1]


def clicked(href: str | None) -> str | None:
    """Follow a tracked link: the URL its token was signed for."""
    assert href is not None
    prefix = "https://mail.example.org/v1/events/click?token="
    if not href.startswith(prefix):
        return None
    verified = tokens.verify_click(KEY, href.removeprefix(prefix))
    assert verified is not None
    assert verified[0] == REQUEST_ID
    return verified[1]


@pytest.mark.parametrize(
    ("tag", "url"),
    [
        ('<a href="https://x.example/">', "https://x.example/"),
        ("<A HREF='http://x.example/a?b=1&amp;c=2'>", "http://x.example/a?b=1&c=2"),
        ("<a\n class=big\n href = https://x.example/p\n>", "https://x.example/p"),
        ('<a title="a > b" href="HTTPS://X.example/">', "HTTPS://X.example/"),
        ('<a title="href=\'https://no.example\'" href="https://x.example">', "https://x.example"),
        ('<a href=" https://x.example/ü&#x1F600; ">', "https://x.example/ü😀"),
        ('<a href="https://x.example/1" href="https://x.example/2">', "https://x.example/1"),
    ],
)
def test_a_link_is_replaced_by_one_signed_for_its_url(tag: str, url: str) -> None:
    body = f"<p>before</p>{tag}text</a>\r\n<p>after &amp; so on</p>"
    result = composed_html(body, track_clicks=True, track_opens=False)
    assert clicked(Hrefs(result).found[0]) == url
    start = result.index('"https://mail.example.org')
    end = result.index('"', start + 1) + 1
    # Byte for byte the same around the one value.
    assert body.startswith(result[:start])
    assert body.endswith(result[end:])


@pytest.mark.parametrize(
    "untouched",
    [
        '<a href="mailto:x@y.example">x</a>',
        '<a href="#top">x</a>',
        '<a href="javascript:alert(1)">x</a>',
        '<a href="{{action_url}}">x</a>',
        '<a href="https://">x</a>',
        "<a href>x</a>",
        "<a name=x>x</a>",
        "<a>x</a>",
        '<abbr href="https://x.example">x</abbr>',
        '<link href="https://x.example/style.css">',
        '<img src="https://x.example/a.png">',
        '<!-- <a href="https://x.example">x</a> -->',
        "<script>'<a href=\"https://x.example\">'</script>",
        '<a data-no-track href="https://x.example">x</a>',
        '<a href="https://x.example/unsubscribe?u=1">x</a>',
        '<a href="https://mail.example.org/v1/unsubscribe?token=x">x</a>',
        '<a href="https://x.example/a b">x</a>',
        f'<a href="https://x.example/{"a" * 2000}">x</a>',
        '<a data-href="https://x.example">x</a>',
        'text with href="https://x.example" in it',
    ],
)
def test_what_is_no_link_to_track_stays_as_it_is(untouched: str) -> None:
    assert composed_html(untouched, track_clicks=True, track_opens=False) == untouched


def test_links_are_left_alone_unless_clicks_are_tracked() -> None:
    body = '<a href="https://x.example">x</a>'
    assert composed_html(body, track_opens=False) == body


def test_every_link_and_the_pixel_in_one_mail() -> None:
    body = "<body>" + "".join(f'<a href="https://x.example/{n}">x</a>' for n in range(50))
    result = composed_html(body + "</body>", track_clicks=True)
    assert [clicked(h) for h in Hrefs(result).found] == [
        f"https://x.example/{n}" for n in range(50)
    ]
    assert PIXEL.search(result)


# --- headers


def test_bulk_mail_with_a_topic_can_be_unsubscribed_with_one_click() -> None:
    envelope = composed(Content("s", text="x", topic_id="news", lane=Lane.BULK))
    headers = dict(envelope.headers)
    assert headers["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    match = re.fullmatch(
        r"<https://mail\.example\.org/v1/unsubscribe\?token=(.+)>", headers["List-Unsubscribe"]
    )
    assert match is not None
    assert tokens.verify_unsubscribe(KEY, match[1]) == (REQUEST_ID, ANN.email, "news")


@pytest.mark.parametrize(
    "content",
    [
        Content("s", text="x", topic_id="news"),
        Content("s", text="x", lane=Lane.BULK),
        Content(
            "s",
            text="x",
            topic_id="news",
            lane=Lane.BULK,
            headers=(("list-UNSUBSCRIBE", "<https://own.example>"),),
        ),
    ],
)
def test_other_mail_has_only_the_callers_headers(content: Content) -> None:
    assert composed(content).headers == content.headers


def test_data_is_filled_in_and_escaped_in_html_only() -> None:
    content = Content(
        "Hi {{ name }}", "<p>{{ name }}</p>", "{{ name }}", templated=True, track_opens=False
    )
    envelope = composed(content, Recipient(ANN.email, ANN.name, {"name": "<A&B>"}))
    assert envelope.subject == "Hi <A&B>"
    assert envelope.html == f"<p>{html.escape('<A&B>')}</p>"
    assert envelope.text == "<A&B>"
