"""mailer as installed, with SES as its way out: what is posted arrives once and as it was."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from html import unescape
from typing import Any

import pytest

from mailer.testing import parse
from tests.process.harness import Mailer, addresses
from tests.ses.harness import FakeSes, raw
from tests.ses.test_bodies import AWKWARD, LARGE
from tests.waiting import until

Start = Callable[..., Mailer]
PIXEL = re.compile(r'<img src="[^"]*/v1/events/open\?request_id=[^"]*"[^>]*>')
LINK = re.compile(r'href="[^"]*/v1/events/click\?token=[^"]*"')
ALL_AWKWARD = "".join(f"<p>{text}</p>" for text in AWKWARD.values())


def arrived(ses: FakeSes, count: int) -> list[dict[str, Any]]:
    until(lambda: ses.count() >= count, within_s=30)
    return ses.mails()


def as_it_left(mail: dict[str, Any]) -> tuple[str, str, str]:
    """Subject, HTML without its pixel and text of the message that SES made."""
    message = parse(raw(mail))
    bodies = []
    for kind in ("html", "plain"):
        part = message.get_body((kind,))
        assert part
        content = part.get_payload(decode=True)
        assert isinstance(content, bytes)
        bodies.append(content.decode())
    without_pixel, pixels = PIXEL.subn("", bodies[0])
    assert pixels == 1
    return message["Subject"], without_pixel, bodies[1]


@pytest.mark.parametrize("escapes", [True, False], ids=["escaping", "plain"])
def test_a_thousand_mails_in_bulk(ses: FakeSes, start: Start, *, escapes: bool) -> None:
    """And two that are too large for it, and some with links and data of their own."""
    ses.told(escapes=escapes, max_send_rate=500)
    mailer = start(ses.url, MAX_SEND_PER_SECOND="500")
    html = f"<html><body>{ALL_AWKWARD}</body></html>"
    subject = AWKWARD["braces"] + AWKWARD["backslashes"] + AWKWARD["emoji"]
    same = {"subject": subject, "text": html, "topic_id": "news/1", "lane": "bulk"}
    ids = mailer.accepted(*addresses(1000), content=html, **same)
    large = mailer.accepted(*addresses(2, "large"), content=LARGE, **same)
    data = {"name": AWKWARD["quotes"] + AWKWARD["backslashes"] + "{{{"}
    people = [{"email": email, "data": data} for email in addresses(20, "own")]
    templated = {
        "recipients": people,
        "subject": "Dear {{ name }}",
        "content": '<a href="https://example.org/">{{ name }}</a>',
        "text": "Dear {{ name }}",
        "track_clicks": True,
    }
    own = mailer.post("/v1/messages", {"messages": [templated]}).json["messages"][0]["request_ids"]

    mails = arrived(ses, 1022)

    came = Counter(mail["tags"]["mailer_request_id"] for mail in mails)
    assert came == Counter(ids + large + own)
    for mail in mails:
        request_id = mail["tags"]["mailer_request_id"]
        got_subject, got_html, got_text = as_it_left(mail)
        if request_id in own:
            assert got_text == got_subject == f"Dear {data['name']}"
            assert unescape(LINK.sub("LINK", got_html)) == f"<a LINK>{data['name']}</a>"
        else:
            assert (got_subject, got_text) == (subject, html)
            assert got_html == (LARGE if request_id in large else html)
        assert mail["tags"].get("mailer_topic") is None  # a slash is none of SES's characters
    assert ses.operations().count("SendEmail") < 50
    assert ses.operations().count("SendBulkEmail") < 100


def test_throttling_costs_nobody_their_mail(ses: FakeSes, start: Start) -> None:
    throttled = {"status": 429, "code": "TooManyRequestsException", "message": "Maximum rate"}
    partly = {"entries": {"0": "ACCOUNT_THROTTLED", "2": "ACCOUNT_THROTTLED"}}
    ses.told(faults=[throttled, partly, {}, throttled])
    mailer = start(ses.url, MAX_SEND_PER_SECOND="200")

    ids = mailer.accepted(*addresses(300))

    mails = arrived(ses, 300)
    assert Counter(mail["tags"]["mailer_request_id"] for mail in mails) == Counter(ids)

    until(lambda: mailer.states() == {"sent": 300})


def test_an_outage_costs_nobody_their_mail(ses: FakeSes, start: Start) -> None:
    """A paused account, from before the start: mail waits, and goes when it is resumed."""
    ses.told(sending_enabled=False)
    mailer = start(ses.url, MAX_SEND_PER_SECOND="200")
    ids = mailer.accepted(*addresses(20))
    until(lambda: "resume it in the SES console" in mailer.log)

    def halted() -> list[tuple[bool, str]]:
        return mailer.rows("SELECT halted_at_ms > 0, blocked_reason FROM transports")

    until(lambda: any(since and "SendingPaused" in why for since, why in halted()))

    ses.told()

    mails = arrived(ses, 20)
    assert Counter(mail["tags"]["mailer_request_id"] for mail in mails) == Counter(ids)
    until(lambda: not any(since or why for since, why in halted()))
