"""The values that travel from the API through the store to senders and plugins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from msgspec import Struct

from mailer.vocabulary import Lane, SuppressionReason


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file that travels with a mail; with `content_id` it is shown inline (`cid:` URL)."""

    filename: str
    content_type: str
    content: bytes
    content_id: str | None = None


@dataclass(frozen=True, slots=True)
class Content:
    """What the recipients of one message share; stored once."""

    subject: str
    html: str | None = None
    text: str | None = None
    topic_id: str | None = None
    from_email: str | None = None
    """None: the FROM_EMAIL setting at the time of sending."""
    reply_to: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    attachments: tuple[Attachment, ...] = ()
    lane: Lane = Lane.INTERACTIVE
    track_opens: bool = True
    track_clicks: bool = False
    templated: bool = False
    """True when a recipient brought `data`: only then is `{{ name }}` filled in."""
    expires_at_ms: int | None = None


class Recipient(Struct, frozen=True):
    """One address of a message, checked and with an ASCII domain.

    Not a dataclass: frozen ones take five times as long to make, and a request has 10,000.
    """

    email: str
    name: str = ""
    data: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class NewMessage:
    """One message to be stored: its content and its recipients, each address once."""

    content: Content
    recipients: tuple[Recipient, ...]
    transport: str | None = None
    """The queue of its mails, see `routing`; None: the batch's."""


@dataclass(frozen=True, slots=True)
class NewBatch:
    """One request's worth of messages: all stored, or nothing."""

    batch_id: str
    """Unique for ever, characters `[0-9a-f]`; its mails are `{batch_id}-0`, `{batch_id}-1`, …"""
    messages: tuple[NewMessage, ...]
    transport: str
    """The queue of mails whose message has none of its own."""
    due_at_ms: int
    """When it may go; at or before `accepted_at_ms` means now."""
    accepted_at_ms: int
    http_request_id: str = ""
    """The HTTP request that brought it, as the log knows it."""

    @property
    def mails(self) -> int:
        return sum(len(message.recipients) for message in self.messages)


class ClaimedMail(Struct, frozen=True):
    """A mail a sender has leased, with what is needed to compose it."""

    id: int
    request_id: str
    message_id: int
    """Names the Content it shares; see `store.messages`."""
    recipient: Recipient
    accepted_at_ms: int
    due_at_ms: int
    attempt: int
    """1 for the first."""
    lane: Lane
    http_request_id: str = ""
    """The HTTP request that brought it."""


@dataclass(frozen=True, slots=True)
class Suppression:
    """One address that is not to be written to, why and where."""

    email: str
    scope: str
    """A group of topics, see `vocabulary.suppression_scope`; `""` is all."""
    reason: SuppressionReason
    detail: str
    created_at_ms: int
