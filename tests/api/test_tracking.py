"""Opens, clicks and unsubscribes: only what was signed counts, and nothing tells what exists."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from mailer import tokens
from mailer.api.tracking import looks_automated
from tests.api.service import Service
from tests.api.steps import BROWSER, claim_all, opens, sent
from tests.waiting import until


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    service = Service(tmp_path_factory.mktemp("tracked"))
    yield service
    service.stop()


@pytest.fixture(scope="module")
def key(tracked: Service) -> bytes:
    with closing(tracked.store()) as store:
        return store.signing_key()


def open_(service: Service, token: str, method: str = "GET", **headers: str) -> None:
    path = f"/v1/events/open?request_id={token}"
    answer = service.request(method, path, headers=headers or BROWSER)
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "image/png"
    assert "no-store" in answer.headers["Cache-Control"]
    assert method == "HEAD" or answer.body.startswith(b"\x89PNG")


def test_opens_are_counted_unique_in_all_and_automated(tracked: Service, key: bytes) -> None:
    token = tokens.sign(key, tokens.OPEN, sent(tracked, "opens"))

    open_(tracked, token)
    until(lambda: opens(tracked, "opens") == (1, 1, 0))
    open_(tracked, token)
    open_(tracked, token, "HEAD")
    until(lambda: opens(tracked, "opens") == (1, 3, 1))

    assert tracked.get("/v1/topics/opens").json["result_counts"]["Open"] == 1


@pytest.mark.parametrize("query", ["", "?request_id=", "?request_id=a&request_id=b", "?x=%ff"])
def test_the_pixel_comes_whatever_is_asked(tracked: Service, query: str) -> None:
    answer = tracked.get(f"/v1/events/open{query}")

    assert (answer.status, answer.headers["Content-Type"]) == (200, "image/png")


@pytest.mark.parametrize(
    ("method", "headers", "automated"),
    [
        ("GET", {"user-agent": BROWSER["User-Agent"]}, False),
        ("GET", {"user-agent": "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0"
                 " (via ggpht.com GoogleImageProxy)"}, False),
        ("HEAD", {"user-agent": BROWSER["User-Agent"]}, True),
        ("GET", {}, True),
        ("GET", {"user-agent": "Mozilla/5.0"}, True),
        ("GET", {"user-agent": "python-requests/2.32"}, True),
        ("GET", {"user-agent": "Mozilla/5.0 (compatible; bingbot/2.0)"}, True),
        ("GET", {"user-agent": BROWSER["User-Agent"], "sec-purpose": "prefetch"}, True),
    ],
)  # fmt: skip
def test_what_looks_automated(method: str, headers: dict[str, str], automated: bool) -> None:
    assert looks_automated(method, headers) is automated


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/a?b=c&d=e#f",
        "http://example.com",
        "https://example.com/%2F%ff?x=%25",
        "https://example.com/ü?ü=ü",
        "https://example.com/'\"<>",
    ],
)
def test_a_click_leads_to_what_was_signed(tracked: Service, key: bytes, url: str) -> None:
    topic_id = f"click-{abs(hash(url))}"
    token = tokens.sign_click(key, sent(tracked, topic_id), url)

    answer = tracked.get(f"/v1/events/click?token={token}&utm_source=x", **BROWSER)

    assert answer.status == 302
    encoded = "".join(c if c.isascii() else "".join(f"%{b:02X}" for b in c.encode()) for c in url)
    assert answer.headers["Location"] == encoded
    until(lambda: tracked.get(f"/v1/topics/{topic_id}").json["clicks"] == 1)


def test_no_other_click_leads_anywhere(tracked: Service, key: bytes) -> None:
    good = tokens.sign_click(key, "ab-0", "https://example.com/")
    signed = [
        tokens.sign_click(key, "ab-0", url)
        for url in (
            "javascript:alert(1)",
            "//evil.example.com",
            r"\\evil.example.com",
            "",
            "data:x",
        )
    ]
    queries = [
        "",
        "token=",
        f"token={good}x",
        f"token={good[:-1]}",
        f"token={good}&token={good}",
        f"token={tokens.sign(key, tokens.OPEN, 'ab-0 https://example.com/')}",
        "token=https://evil.example.com",
        "url=https://evil.example.com",
        *(f"token={token}" for token in signed),
    ]

    answers = [tracked.get(f"/v1/events/click?{query}") for query in queries]

    assert {answer.status for answer in answers} == {400}
    assert all(answer.headers["Location"] is None for answer in answers)


def test_an_added_url_changes_nothing(tracked: Service, key: bytes) -> None:
    token = tokens.sign_click(key, "ab-0", "https://example.com/")

    answer = tracked.get(f"/v1/events/click?token={token}&url=https://evil.example.com")

    assert answer.headers["Location"] == "https://example.com/"


def leave_token(
    key: bytes, request_id: str, scope: str = "", email: str = "reader@example.com"
) -> str:
    return tokens.sign_unsubscribe(key, request_id, email, scope)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"List-Unsubscribe=One-Click", "application/x-www-form-urlencoded"),
        (b'--x\r\nContent-Disposition: form-data; name="List-Unsubscribe"\r\n\r\nOne-Click\r\n'
         b"--x--\r\n", "multipart/form-data; boundary=x"),
    ],
)  # fmt: skip
def test_one_click_suppresses_within_the_topics_group(
    serve: Callable[..., Service], body: bytes, kind: str
) -> None:
    service = serve()
    request_id = sent(service, "news/january")
    with closing(service.store()) as store:
        token = leave_token(store.signing_key(), request_id, "news")
    path = f"/v1/unsubscribe?token={token}"

    assert service.get(path).status == 200
    assert service.get("/v1/suppressions").json["suppressions"] == []
    for _ in range(2):
        assert service.request("POST", path, body, {"Content-Type": kind}).status == 200

    (entry,) = service.get("/v1/suppressions").json["suppressions"]
    assert (entry["email"], entry["scope"], entry["reason"]) == (
        "reader@example.com",
        "news",
        "unsubscribe",
    )
    assert service.get("/v1/topics/news/january").json["unsubscribes"] == 1
    service.send("reader@example.com", topic_id="news/february")
    service.send("reader@example.com", topic_id="receipts")
    assert len(claim_all(service)) == 1


def test_the_page_runs_nothing_and_asks_before_it_does(tracked: Service, key: bytes) -> None:
    token = leave_token(key, "abcdef-0")

    page = tracked.get(f"/v1/unsubscribe?token={token}")

    assert b'<form method="post">' in page.body
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert page.headers["Referrer-Policy"] == "no-referrer"


def test_a_mail_that_is_gone_is_answered_like_any_other(tracked: Service, key: bytes) -> None:
    mail = sent(tracked, "gone", "gone@example.com")
    known = leave_token(key, mail, "gone", "gone@example.com")
    gone = leave_token(key, "abcdef-0", "other")

    answers = [
        tracked.request(method, f"/v1/unsubscribe?token={token}")
        for token in (known, gone)
        for method in ("GET", "POST")
    ]

    assert [answer.status for answer in answers] == [200] * 4
    assert answers[0].body == answers[2].body
    assert answers[1].body == answers[3].body
    suppressions = tracked.get("/v1/suppressions?email=gone@example.com").json["suppressions"]
    reader = tracked.get("/v1/suppressions?email=reader@example.com").json["suppressions"]
    assert [entry["scope"] for entry in suppressions] == ["gone"]
    assert [entry["scope"] for entry in reader] == ["other"]


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_damaged_unsubscribe_link_says_so(tracked: Service, method: str) -> None:
    assert tracked.request(method, "/v1/unsubscribe?token=x").status == 400
