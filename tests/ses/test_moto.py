"""Single mails over moto's server, which is not our own idea of SES."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from email import message_from_string, policy
from typing import Any
from urllib.request import urlopen

import boto3
import pytest
from mailer_ses.account import Account
from mailer_ses.transport import SesTransport

from mailer.mail import Attachment
from mailer.testing import assert_all_accepted, envelope
from tests.process.harness import Mailer, addresses
from tests.ses.test_bodies import AWKWARD
from tests.ses.test_life import PIXEL
from tests.ses.test_outcomes import mails
from tests.waiting import until


@pytest.fixture
def moto(moto_url: str, aws: None, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("AWS_ENDPOINT_URL_SESV2", moto_url)
    client = boto3.client("sesv2", region_name="eu-central-1")
    with suppress(client.exceptions.AlreadyExistsException):
        client.create_email_identity(EmailIdentity="example.org")
    return moto_url


@pytest.fixture
def transport(account: Account) -> SesTransport:
    return SesTransport(replace(account, bulk=False))


def record(url: str, kind: str) -> list[dict[str, Any]]:
    with urlopen(f"{url}/moto-api/data.json", timeout=5) as answer:
        data = json.load(answer)
    found: list[dict[str, Any]] = data["ses"].get(kind, [])
    return found


def test_a_hundred_mails_arrive_as_they_were_composed(moto: str, transport: SesTransport) -> None:
    texts = list(AWKWARD.values())
    given = [
        replace(mail, html=f"<p>{n}{texts[n % len(texts)]}</p>", text=None)
        for n, mail in enumerate(mails(100))
    ]
    session = transport.open()  # moto has no GetAccount, which must not matter

    for mail in given:
        assert_all_accepted(session.send([mail]), 1)

    arrived = {one["destinations"]["ToAddresses"][0]: one for one in record(moto, "Message")}
    for mail in given:
        (got,) = (one for to, one in arrived.items() if mail.recipient in to)
        assert got["subject"] == mail.subject
        assert got["body"] == mail.html


def test_a_hundred_mails_posted_arrive_as_they_were_posted(
    moto: str, start: Callable[..., Mailer]
) -> None:
    mailer = start(moto, SES_BULK="0", MAX_SEND_PER_SECOND="200")
    posted: dict[str, tuple[str, str]] = {}
    for name, text in AWKWARD.items():
        people = addresses(100 // len(AWKWARD) + 1, name)
        mailer.accepted(*people, subject=f"{name} {{{{x}}}}", content=f"<p>{text}</p>")
        posted |= dict.fromkeys(people, (f"{name} {{{{x}}}}", f"<p>{text}</p>"))
    assert len(posted) >= 100

    until(lambda: mailer.states() == {"sent": len(posted)}, within_s=30)

    arrived = {one["destinations"]["ToAddresses"][0]: one for one in record(moto, "Message")}
    for recipient, (subject, html) in posted.items():
        got = arrived[recipient]
        assert got["subject"] == subject
        assert PIXEL.subn("", got["body"]) == (html, 1)


def test_a_mail_with_a_file_arrives_as_mime(moto: str, transport: SesTransport) -> None:
    file = Attachment("Übersicht.pdf", "application/pdf", bytes(range(256)))
    mail = envelope(1, from_email="shop@example.org", attachments=(file,))

    assert_all_accepted(transport.open().send([mail]), 1)

    (got,) = record(moto, "RawMessage")
    message = message_from_string(got["raw_data"], policy=policy.default)
    (part,) = message.iter_attachments()
    assert part.get_filename() == file.filename
    assert part.get_payload(decode=True) == file.content


def test_an_unverified_sender_is_refused(moto: str, account: Account) -> None:
    mine = "me@elsewhere.example"
    transport = SesTransport(replace(account, bulk=False, from_email=mine))

    (outcome,) = transport.open().send([envelope(1, from_email=mine)])

    assert "not verified" in outcome.detail
    assert outcome.kind == "throttled"
