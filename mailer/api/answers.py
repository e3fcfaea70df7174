"""The JSON the API answers; `/openapi.json` is made from these types."""

from __future__ import annotations

from typing import Any

import falcon.asgi
import msgspec
from msgspec import Struct

from mailer.api.problems import FaultAnswer

_encoder = msgspec.json.Encoder()


def give(resp: falcon.asgi.Response, answer: Any) -> None:
    """Answer 200 with this as JSON."""
    resp.content_type = "application/json"
    resp.data = _encoder.encode(answer)


def encoded(answer: Struct) -> bytes:
    return _encoder.encode(answer)


class Healthy(Struct, frozen=True):
    """The process answers."""

    status: str = "ok"


class Ready(Struct, frozen=True):
    """The database answers too."""

    status: str = "ok"
    db: str = "connected"


class AcceptedMessage(Struct, frozen=True):
    """One message's mails, in the order of its recipients; null where one was skipped."""

    topic_id: str | None
    transport: str
    request_ids: list[str | None]


class Accepted(Struct, frozen=True):
    """What was stored: `total` addresses were given, `success` mails are on disk for them."""

    total: int
    success: int
    errors: int
    duration_ms: int
    scheduled: bool
    batch_id: str
    due_at: str
    duplicates: int
    skipped: list[FaultAnswer]
    messages: list[AcceptedMessage]


class MailAnswer(Struct, frozen=True, kw_only=True):
    """One mail as it stands."""

    request_id: str
    batch_id: str
    topic_id: str | None
    recipient: str
    name: str
    subject: str
    state: str
    waits_for: str | None
    lane: str
    transport: str
    accepted_at: str
    due_at: str
    state_at: str
    provider_id: str | None
    detail: str | None
    http_request_id: str


class AttemptAnswer(Struct, frozen=True):
    """One hand-over to the transport."""

    attempt: int
    transport: str
    started_at: str
    ended_at: str
    outcome: str
    detail: str
    provider_id: str | None


class EventAnswer(Struct, frozen=True):
    """One thing learnt about a mail."""

    type: str
    at: str
    source: str
    detail: str


class LoggedEvent(Struct, frozen=True, kw_only=True):
    """One entry of the event log; `accepted` tells of a whole batch and has no `mail_id`."""

    id: str
    type: str
    at: str
    mail_id: str | None
    batch_id: str | None
    topic_id: str | None
    recipient: str | None
    tags: dict[str, str]
    source: str
    detail: str
    permanent: bool
    already_suppressed: bool
    automated: bool
    raw: str


class EventPage(Struct, frozen=True):
    """A page of the log. `next` is the `after` of the next page, also when there is none yet.

    With a filter a page may be short or empty though `more` follow.
    """

    events: list[LoggedEvent]
    next: str
    more: bool


class MailHistory(MailAnswer, frozen=True, kw_only=True):
    """A mail and all that happened to it."""

    attempts: list[AttemptAnswer]
    events: list[EventAnswer]


class MailList(Struct, frozen=True):
    """A page of mails; `next` is the `after` of the next page, null on the last."""

    mails: list[MailAnswer]
    next: str | None


class MailCancelled(Struct, frozen=True):
    """The numbers are 0 or 1: in flight, the mail may still arrive."""

    status: str
    cancelled: int
    in_flight: int
    mail: MailAnswer


class Cancelled(Struct, frozen=True):
    """Nothing more is handed over; what was in flight may still arrive."""

    status: str
    cancelled: int
    in_flight: int
    already_sent: int


class BatchCancelled(Struct, frozen=True):
    """Nothing more is handed over; `finished` were sent or had ended otherwise before."""

    status: str
    cancelled: int
    in_flight: int
    finished: int


class BatchAnswer(Struct, frozen=True):
    """A batch, the ways of its mails, and how many of them are in each state."""

    batch_id: str
    transports: list[str]
    accepted_at: str
    due_at: str
    http_request_id: str
    total: int
    states: dict[str, int]


class Opens(Struct, frozen=True):
    """Mails opened, openings in all, and how many of these look automated."""

    unique: int
    total: int
    automated: int


class TopicAnswer(Struct, frozen=True):
    """A topic's counters; the first two maps are the reference's."""

    request_counts: dict[str, int]
    result_counts: dict[str, int]
    topic_id: str
    paused: bool
    total: int
    success: int
    failure: int
    opens: Opens
    clicks: int
    unsubscribes: int
    states: dict[str, int]
    first_due_at: str | None
    last_sent_at: str | None


class TopicList(Struct, frozen=True):
    """A page of topics by name; `next` is the `after` of the next page, null on the last."""

    topics: list[TopicAnswer]
    next: str | None


class TopicSteered(Struct, frozen=True):
    """What pausing, resuming or retrying changed.

    `in_flight` mails were with a sender already and may still be handed over.
    """

    status: str
    paused: bool
    in_flight: int
    retried: int


class SuppressionAnswer(Struct, frozen=True):
    """One address; the scope is a group of topics, or empty: everywhere."""

    email: str
    scope: str
    reason: str
    detail: str
    created_at: str


class SuppressionList(Struct, frozen=True):
    """A page of suppressions; `next` is the `after` of the next page, null on the last."""

    suppressions: list[SuppressionAnswer]
    next: str | None


class SuppressionChanged(Struct, frozen=True):
    """How many entries were added or removed."""

    status: str
    changed: int


class SentCounts(Struct, frozen=True):
    """Mails handed over in the last hours, and what the provider allows; null: no such limit."""

    count: int
    max_24h: int | None
    remaining_24h: int | None
    max_per_second: float | None


class Learnt(Struct, frozen=True):
    """How many events of a notification were new."""

    status: str
    events: int
