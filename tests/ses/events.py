"""What SES tells of mail, as SNS posts it to a URL: events, envelopes, and a publisher."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import Request, urlopen

from tests.ses.authority import Authority

if TYPE_CHECKING:
    from tests.ses.mailing import Mail

TOPIC_ARN = "arn:aws:sns:eu-central-1:123456789012:ses-events"


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def envelope(message: str, **changes: str) -> dict[str, Any]:
    """An unsigned Notification."""
    return {
        "Type": "Notification",
        "MessageId": str(uuid.uuid4()),
        "TopicArn": TOPIC_ARN,
        "Message": message,
        "Timestamp": now(),
        **changes,
    }


def event(kind: str, mail: dict[str, Any], **details: Any) -> str:
    """An SES event as event publishing has it."""
    return json.dumps({"eventType": kind, "mail": mail, **details})


def mail_object(message_id: str, recipient: str, tags: dict[str, list[str]]) -> dict[str, Any]:
    return {
        "timestamp": now(),
        "messageId": message_id,
        "source": "shop@example.org",
        "destination": [recipient],
        "tags": tags,
    }


@dataclass
class Publisher:
    """Posts Send of each mail and what became of it, signed, from threads of its own."""

    authority: Authority

    @classmethod
    def of(cls, directory: str) -> Publisher:
        return cls(Authority.at(Path(directory)))

    def tell(self, url: str, mails: Sequence[Mail]) -> None:
        threading.Thread(target=self._tell, args=(url, list(mails)), daemon=True).start()

    def _tell(self, url: str, mails: Sequence[Mail]) -> None:
        for mail in mails:
            tags = {name: [value] for name, value in mail.tags.items()}
            about = mail_object(mail.message_id, mail.recipient, tags)
            if mail.failure:
                failure = {"errorMessage": mail.failure, "templateName": "inline"}
                self.post(url, event("Rendering Failure", about, failure=failure))
                continue
            self.post(url, event("Send", about, send={}))
            for message in _ending(mail.recipient, about):
                self.post(url, message)

    def post(self, url: str, message: str) -> int:
        body = self.authority.sign(envelope(message))
        headers = {"Content-Type": "text/plain; charset=UTF-8"}
        headers["x-amz-sns-message-type"] = "Notification"
        request = Request(url, json.dumps(body).encode(), headers)
        with urlopen(request, timeout=15) as answer:
            status: int = answer.status
            return status


def _ending(recipient: str, about: dict[str, Any]) -> Iterator[str]:
    """A delivery; at SES's simulator what the address asks for."""
    simulated, _, domain = recipient.partition("@")
    wish = simulated.partition("+")[0] if domain == "simulator.amazonses.com" else "success"
    each = [{"emailAddress": recipient}]
    if wish == "bounce":
        bounce = {"bounceType": "Permanent", "bounceSubType": "General", "bouncedRecipients": each}
        yield event("Bounce", about, bounce=bounce | {"timestamp": now(), "feedbackId": recipient})
        return
    yield event("Delivery", about, delivery={"timestamp": now(), "recipients": [recipient]})
    if wish == "complaint":
        complaint = {"complainedRecipients": each, "complaintFeedbackType": "abuse"}
        yield event(
            "Complaint", about, complaint=complaint | {"timestamp": now(), "feedbackId": recipient}
        )
