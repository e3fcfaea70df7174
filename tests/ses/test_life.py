"""mailer as installed, with SES as its way out: what is posted arrives once and as it was."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.installation import Installation
from tests.ses.harness import ROOT, FakeSes
from tests.ses.test_bodies import AWKWARD
from tests.waiting import until

Start = Callable[..., Installation]
PIXEL = re.compile(r'<img src="[^"]*/v1/events/open\?request_id=[^"]*"[^>]*>')


def ses_plugin(directory: Path) -> str:
    """A path on which the plugin is found by its entry point, installed or not."""
    info = directory / "site" / "mailer_ses-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mailer_ses\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[mailer]\nses = mailer_ses\n")
    return str(info.parent)


@pytest.fixture
def start(ses: FakeSes, tmp_path: Path) -> Iterator[Start]:
    started: list[Installation] = []

    def run(**settings: str) -> Installation:
        paths = [ses_plugin(tmp_path), str(ROOT / "plugins"), os.environ.get("PYTHONPATH", "")]
        installation = Installation(
            tmp_path,
            PYTHONPATH=os.pathsep.join(paths),
            AWS_SES_FROM_EMAIL="shop@example.org",
            AWS_REGION="eu-central-1",
            AWS_ACCESS_KEY_ID="AKIATEST",
            AWS_SECRET_ACCESS_KEY="secret",
            AWS_ENDPOINT_URL_SESV2=ses.url,
            API_WORKERS="1",
            **settings,
        )
        started.append(installation)
        installation.run()
        return installation

    yield run
    for installation in started:
        print(installation.json("status"), installation.log, ses.calls())  # seen when a test fails
        installation.stop()


def post(installation: Installation, count: int, **message: Any) -> list[str]:
    emails = [f"reader{n}@example.net" for n in range(count)]
    body = {"messages": [{"topic_id": "news/1", "emails": emails, "subject": "News", **message}]}
    status, answer = installation.call("POST", "/v1/messages", body)
    assert status == 200, answer
    ids: list[str] = answer["messages"][0]["request_ids"]
    return ids


def arrived(ses: FakeSes, count: int) -> list[dict[str, Any]]:
    until(lambda: ses.count() >= count, within_s=30)
    return ses.mails()


@pytest.mark.parametrize("escapes", [True, False], ids=["escaping", "plain"])
def test_a_thousand_mails_in_bulk(ses: FakeSes, start: Start, *, escapes: bool) -> None:
    ses.told(escapes=escapes, max_send_rate=500)
    html = (
        "<html><body>" + "".join(f"<p>{text}</p>" for text in AWKWARD.values()) + "</body></html>"
    )
    html = html.replace("\x00", "")
    installation = start(MAX_SEND_PER_SECOND="500")

    ids = post(installation, 1000, content=html, text=html)

    mails = arrived(ses, 1000)
    assert Counter(mail["tags"]["mailer_request_id"] for mail in mails) == Counter(ids)
    for mail in mails:
        assert PIXEL.subn("", mail["html"]) == (html, 1)
        assert mail["text"] == html
        assert mail["tags"].get("mailer_topic") is None  # a slash is none of SES's characters
    bulk = ses.operations().count("SendBulkEmail")
    assert ses.operations().count("SendEmail") < 50
    assert bulk < 100


def test_throttling_costs_nobody_their_mail(ses: FakeSes, start: Start) -> None:
    throttled = {"status": 429, "code": "TooManyRequestsException", "message": "Maximum rate"}
    partly = {"entries": {"0": "ACCOUNT_THROTTLED", "2": "ACCOUNT_THROTTLED"}}
    ses.told(faults=[throttled, partly, {}, throttled])
    installation = start(MAX_SEND_PER_SECOND="200")

    ids = post(installation, 300, content="<p>x</p>")

    mails = arrived(ses, 300)
    assert Counter(mail["tags"]["mailer_request_id"] for mail in mails) == Counter(ids)

    def sent() -> bool:
        _, topic = installation.call("GET", "/v1/topics/news%2F1")
        return bool(topic["request_counts"]["Sent"] == 300)

    until(sent)


def test_an_outage_costs_nobody_their_mail(ses: FakeSes, start: Start) -> None:
    """A paused account, from before the start: mail waits, and goes when it is resumed."""
    ses.told(sending_enabled=False)
    installation = start(MAX_SEND_PER_SECOND="200")
    ids = post(installation, 20, content="<p>x</p>")
    until(lambda: "resume it in the SES console" in installation.log)

    ses.told()

    mails = arrived(ses, 20)
    assert Counter(mail["tags"]["mailer_request_id"] for mail in mails) == Counter(ids)
