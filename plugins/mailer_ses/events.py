"""SES's words for what became of a mail, translated to mailer's; the original stays with each.

Both families come in alike: event publishing (`eventType`, with our tags) and the feedback of an
identity (`notificationType`, without). The same thing told by both, or twice, is one event.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from mailer.hookspecs import ProviderEvent
from mailer.vocabulary import EventType
from mailer_ses.requests import REQUEST_ID_TAG

log = logging.getLogger("mailer.ses")

SOURCE: Final = "ses"

_KINDS: Final[Mapping[str, tuple[EventType, str]]] = {
    "Send": (EventType.SENT, "send"),
    "Delivery": (EventType.DELIVERY, "delivery"),
    "Bounce": (EventType.BOUNCE, "bounce"),
    "Complaint": (EventType.COMPLAINT, "complaint"),
    "Open": (EventType.OPEN, "open"),
    "Click": (EventType.CLICK, "click"),
    "Reject": (EventType.REJECT, "reject"),
    "Rendering Failure": (EventType.REJECT, "failure"),
    "DeliveryDelay": (EventType.DELAY, "deliveryDelay"),
    "Subscription": (EventType.UNSUBSCRIBE, "subscription"),
}
"""SES's type → ours, and the member that has its details."""

_RECIPIENTS: Final = (
    "bouncedRecipients", "complainedRecipients", "delayedRecipients", "recipients",
)  # fmt: skip
_DETAILS: Final = (
    "bounceType", "bounceSubType", "complaintSubType", "complaintFeedbackType", "delayType",
    "reason", "errorMessage", "smtpResponse", "link", "source",
)  # fmt: skip
_ABOUT_RECIPIENT: Final = ("action", "status", "diagnosticCode")
_SUPPRESSED: Final = frozenset({"Suppressed", "OnAccountSuppressionList"})
"""SES's global list, and the account's own
(https://docs.aws.amazon.com/ses/latest/dg/notification-contents.html#bounce-types)."""
_REQUEST_ID: Final = re.compile(r"[0-9a-z-]{1,50}")
_AUTOMATION: Final = re.compile(r"bot|automat|machine", re.IGNORECASE)
_PREFETCHING_AGENT: Final = "Mozilla/5.0"
"""All that Apple's Mail Privacy Protection says of itself when it loads every picture at once."""


def translated(payload: str, *, sns_message_id: str, at: datetime) -> list[ProviderEvent]:
    """One event for each recipient told of; none when the payload is not about a mail.

    `sns_message_id` and `at` stand in where SES gives no identity or time of its own.
    """
    try:
        told = _mapping(json.loads(payload))
    except (ValueError, RecursionError):
        told = {}
    kind = _text(told.get("eventType")) or _text(told.get("notificationType"))
    mail = _mapping(told.get("mail"))
    provider_id = _text(mail.get("messageId"))
    if not kind or not provider_id:
        log.info("ses: a message of SNS that is about no mail (%s)", kind or "not of SES")
        return []
    event_type, member = _KINDS.get(kind, (EventType.OTHER, ""))
    details = _mapping(told.get(member))
    event_type = _settled(event_type, details)
    time = _text(details.get("timestamp")) or _text(mail.get("timestamp"))
    identity = _text(details.get("feedbackId")) or time or sns_message_id
    if event_type is EventType.OTHER:
        identity = sns_message_id
    return [
        ProviderEvent(
            event_type,
            _milliseconds(time, at),
            SOURCE,
            f"{kind}/{provider_id}/{identity}/{address}",
            request_id=_our_id(mail),
            provider_id=provider_id,
            recipient=address or None,
            permanent=event_type is EventType.BOUNCE and details.get("bounceType") == "Permanent",
            already_suppressed=not _SUPPRESSED.isdisjoint(
                {details.get("bounceSubType"), details.get("complaintSubType")}
            ),
            automated=event_type in {EventType.OPEN, EventType.CLICK} and _is_automated(details),
            detail=_detail(details, about),
            raw=payload,
        )
        for address, about in _recipients(details, mail)
    ]


def _settled(event_type: EventType, details: Mapping[str, Any]) -> EventType:
    """Some events say less than their type, or the opposite."""
    if event_type is EventType.COMPLAINT and details.get("complaintFeedbackType") == "not-spam":
        return EventType.OTHER
    if event_type is EventType.UNSUBSCRIBE:
        wishes = _mapping(details.get("newTopicPreferences"))
        return event_type if wishes.get("unsubscribeAll") is True else EventType.OTHER
    return event_type


def _recipients(
    details: Mapping[str, Any], mail: Mapping[str, Any]
) -> list[tuple[str, Mapping[str, Any]]]:
    """Addresses an event tells of, with what it says of each; at least one, perhaps unknown."""
    named = next((details[name] for name in _RECIPIENTS if details.get(name)), None)
    if not isinstance(named, list):
        destination = mail.get("destination")
        named = destination if isinstance(destination, list) and len(destination) == 1 else [""]
    return [
        (_text(one), {}) if not isinstance(one, dict) else (_text(one.get("emailAddress")), one)
        for one in named
    ]


def _our_id(mail: Mapping[str, Any]) -> str | None:
    values = _mapping(mail.get("tags")).get(REQUEST_ID_TAG)
    value = _text(values[0]) if isinstance(values, list) and len(values) == 1 else ""
    return value if _REQUEST_ID.fullmatch(value) else None


def _is_automated(details: Mapping[str, Any]) -> bool:
    flagged = any(
        _AUTOMATION.search(name) and str(value).lower() == "true" for name, value in details.items()
    )
    return flagged or details.get("userAgent") == _PREFETCHING_AGENT


def _detail(details: Mapping[str, Any], about: Mapping[str, Any]) -> str:
    said = [_text(details.get(name)) for name in _DETAILS]
    said += [_text(about.get(name)) for name in _ABOUT_RECIPIENT]
    return " ".join(" ".join(filter(None, said)).split())


def _milliseconds(text: str, otherwise: datetime) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = otherwise
    if moment.tzinfo is None:
        moment = otherwise
    return int(moment.timestamp() * 1000)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
