"""Real mails through a real Postfix, read back from the mailbox."""

from __future__ import annotations

import re
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path

import pytest

from tests.process.harness import Mailer
from tests.system.postfix import Postfix
from tests.waiting import until

SAMPLES = Path(__file__).parents[1] / "samples"
NAMES = ("newsletter", "receipt", "password-reset", "welcome", "example")
PIXEL = re.compile(rb'<img src="http://127\.0\.0\.1:\d+/v1/events/open\?request_id=[^"]+"[^>]*>')


@pytest.fixture
def postfix() -> Iterator[Postfix]:
    with Postfix() as server:
        yield server


def message(name: str) -> dict[str, object]:
    text = SAMPLES / f"{name}.txt"
    return {
        "topic_id": f"samples/{name}",
        "emails": [f"{name}@example.com"],
        "subject": f"{name}: grüße {{{{product_name}}}}",
        "content": (SAMPLES / f"{name}.html").read_bytes().decode()
        + "<!-- {{product_name}} {{#each x}} -->",
        **({"text": text.read_bytes().decode()} if text.exists() else {}),
    }


def body(mail: EmailMessage, kind: str) -> bytes:
    part = mail.get_body((kind,))
    assert part is not None
    payload = part.get_payload(decode=True)
    assert isinstance(payload, bytes)
    return payload


def test_samples_arrive_byte_for_byte(tmp_path: Path, postfix: Postfix) -> None:
    mailer = Mailer(
        tmp_path, TRANSPORT="smtp", SMTP_URL=postfix.url, FROM_EMAIL="Läden <shop@example.org>"
    )
    try:
        posted = {name: message(name) for name in NAMES}
        answer = mailer.post("/v1/messages", {"messages": list(posted.values())})
        assert answer.status == 200, answer.body
        until(lambda: len(postfix.mails()) == len(NAMES), within_s=30)
        arrived = {str(mail["To"]).partition("@")[0]: mail for mail in postfix.mails()}
        assert set(arrived) == set(NAMES)
        for name, mail in arrived.items():
            sent = posted[name]
            assert not mail.defects
            assert mail["Subject"] == sent["subject"]
            assert mail["From"] == "Läden <shop@example.org>"
            html = body(mail, "html")
            assert len(PIXEL.findall(html)) == 1
            assert PIXEL.sub(b"", html) == str(sent["content"]).encode()
            if "text" in sent:
                assert body(mail, "plain") == str(sent["text"]).encode()
        topic = mailer.get("/v1/topics/samples/receipt").json
        assert topic["request_counts"]["Sent"] == 1
    finally:
        mailer.end()
