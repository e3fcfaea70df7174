"""Makes one mail out of a message and one of its recipients. Pure functions.

Bodies go out byte for byte as posted, apart from the open pixel (`track_opens`), rewritten links
(`track_clicks`) and, for recipients who brought data, filled-in templates (`templates.py`).
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from mailer import templates, tokens
from mailer.hookspecs import Envelope
from mailer.mail import Content, Recipient
from mailer.vocabulary import Lane, suppression_scope

MAX_TRACKED_URL_BYTES: Final = 2_000
"""Longer links are left as they are: their token would not fit into a URL that works anywhere."""


@dataclass(frozen=True, slots=True)
class Links:
    """What links in mails are made of."""

    public_url: str
    """The base under which strangers reach the API, without a slash at its end."""
    key: bytes
    """Signs the tokens in them."""


def compose(
    content: Content,
    recipient: Recipient,
    *,
    request_id: str,
    created_at_ms: int,
    default_from: str,
    links: Links,
) -> Envelope:
    """Compose the mail; the same arguments give the same mail at every attempt.

    Raises FillError where `templates.faults` found a fault.
    """
    subject, body, text = content.subject, content.html, content.text
    if content.templated:
        subject = templates.fill_subject(subject, recipient.data)
        body = body and templates.fill(body, recipient.data, html=True)
        text = text and templates.fill(text, recipient.data)
    from_email = content.from_email or default_from
    return Envelope(
        request_id=request_id,
        created_at_ms=created_at_ms,
        message_id=f"<{request_id}@{_domain(from_email)}>",
        from_email=from_email,
        recipient=recipient.email,
        recipient_name=recipient.name,
        subject=subject,
        html=body if body is None else _tracked(body, content, request_id, links),
        text=text,
        reply_to=content.reply_to,
        topic_id=content.topic_id,
        tags=content.tags,
        headers=(*content.headers, *_unsubscribe_headers(content, recipient, request_id, links)),
        attachments=content.attachments,
    )


def _domain(mailbox: str) -> str:
    return mailbox.rpartition("@")[2].strip("<> ") or "localhost"


def _unsubscribe_headers(
    content: Content, recipient: Recipient, request_id: str, links: Links
) -> tuple[tuple[str, str], ...]:
    """One-click unsubscribe (RFC 8058) for bulk mail, unless the caller brought their own."""
    has_own = any(name.lower() == "list-unsubscribe" for name, _ in content.headers)
    if content.lane is not Lane.BULK or content.topic_id is None or has_own:
        return ()
    scope = suppression_scope(content.topic_id)
    token = tokens.sign_unsubscribe(links.key, request_id, recipient.email, scope)
    return (
        ("List-Unsubscribe", f"<{links.public_url}/v1/unsubscribe?token={token}>"),
        ("List-Unsubscribe-Post", "List-Unsubscribe=One-Click"),
    )


def _tracked(body: str, content: Content, request_id: str, links: Links) -> str:
    if not (content.track_opens or content.track_clicks):
        return body
    layout = _layout(body)
    pieces, copied_to = [], 0
    if content.track_clicks:
        for link in layout.links:
            if link.url.startswith(f"{links.public_url}/"):
                continue
            token = tokens.sign_click(links.key, request_id, link.url)
            url = html.escape(f"{links.public_url}/v1/events/click?token={token}")
            pieces += [body[copied_to : link.start], f'"{url}"']
            copied_to = link.end
    if content.track_opens:
        # A link never spans the pixel's place, and none comes after it but in broken HTML.
        at = max(layout.pixel_at, copied_to)
        pieces += [body[copied_to:at], _pixel(request_id, links)]
        copied_to = at
    return "".join([*pieces, body[copied_to:]])


def _pixel(request_id: str, links: Links) -> str:
    token = tokens.sign(links.key, tokens.OPEN, request_id)
    url = html.escape(f"{links.public_url}/v1/events/open?request_id={token}")
    return (
        f'<img src="{url}" width="1" height="1" alt=""'
        ' style="display:block;width:1px;height:1px;border:0">'
    )


@dataclass(frozen=True, slots=True)
class _Link:
    """An `href` to be tracked: where its value stands, quotes included, and what it means."""

    start: int
    end: int
    url: str


@dataclass(frozen=True, slots=True)
class _Layout:
    pixel_at: int
    links: tuple[_Link, ...]


# What the browser does not read as markup runs to its end tag, or to the end of the text.
# Tags are matched so that `>` and `<` within quotes belong to the value.
_MARKUP: Final = re.compile(
    r"""
    (?P<comment><!--(?:-?>|.*?(?:-->|\Z)))
    | <(?P<raw>script|style|textarea|title)\b.*?(?:</(?P=raw)\b|\Z)
    | </(?P<end>body|html)\s*>
    | <a(?P<attributes>(?:[\s/](?:[^<>"']|"[^"]*"|'[^']*')*+)?+)>
    """,
    re.IGNORECASE | re.DOTALL | re.VERBOSE,
)
_ATTRIBUTE: Final = re.compile(
    r"""(?P<name>[^\s=/"'<>]+)(?:\s*=\s*(?P<value>"[^"]*"|'[^']*'|[^\s"'<>]+))?"""
)
_TRACKABLE: Final = re.compile(r"https?://[^\s\x00-\x1f\x7f]+", re.IGNORECASE)


@lru_cache(maxsize=8)
def _layout(body: str) -> _Layout:
    """Read the HTML once: mails of one message share it, unless they are templated."""
    places: dict[str, int] = {}
    links = []
    end_of_markup = len(body)
    for match in _MARKUP.finditer(body):
        if match["end"]:
            places[match["end"].lower()] = match.start()
        elif match["attributes"] is not None:
            link = _link(match["attributes"], match.start("attributes"))
            links += [link] if link else []
        elif match.end() == len(body) and not match[0].endswith("-->"):
            end_of_markup = match.start()
    pixel_at = places.get("body", places.get("html", end_of_markup))
    return _Layout(pixel_at, tuple(links))


def _link(attributes: str, offset: int) -> _Link | None:
    """Find the link to track, if it is one: http or https, and not meant to be left alone."""
    found: dict[str, re.Match[str]] = {}
    for match in _ATTRIBUTE.finditer(attributes):
        found.setdefault(match["name"].lower(), match)  # of two alike, the first one counts
    href = found.get("href")
    if href is None or href["value"] is None or "data-no-track" in found:
        return None
    value = href["value"]
    url = html.unescape(value[1:-1] if value[0] in "\"'" else value).strip()
    # An unsubscribe link must work whatever becomes of this service.
    if not _TRACKABLE.fullmatch(url) or "unsubscribe" in url.lower():
        return None
    if len(url.encode()) > MAX_TRACKED_URL_BYTES:
        return None
    return _Link(offset + href.start("value"), offset + href.end("value"), url)
