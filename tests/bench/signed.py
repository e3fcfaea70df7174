"""What SNS posts when SES has delivered a mail, signed by an authority of the benchmark's own."""

from __future__ import annotations

import json
import os
import uuid
from datetime import UTC, datetime
from typing import Final

from mailer_ses.requests import REQUEST_ID_TAG

from tests.ses.authority import Authority

TOPIC_ARN: Final = "arn:aws:sns:eu-central-1:123456789012:ses-events"


def delivery(authority: Authority, request_id: str) -> str:
    """A notification of its own that says this mail was delivered just now."""
    at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    told = {
        "eventType": "Delivery",
        "mail": {
            "timestamp": at,
            "messageId": f"bench-{request_id}",
            "tags": {REQUEST_ID_TAG: [request_id]},
        },
        "delivery": {"timestamp": at, "recipients": ["reader@example.org"]},
    }
    envelope = {
        "Type": "Notification",
        "MessageId": str(uuid.UUID(bytes=os.urandom(16))),
        "TopicArn": TOPIC_ARN,
        "Message": json.dumps(told),
        "Timestamp": at,
    }
    return json.dumps(authority.sign(envelope))
