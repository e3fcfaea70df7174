"""The words mailer uses, each for one thing: in JSON, columns, code, log lines and pages.

The states of a mail and the moves between them are data here. The store refuses any other
move, the documentation's diagram and the tests are made from this table.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class State(StrEnum):
    """Where a mail is. The only list of states there is."""

    PENDING = "pending"
    SENDING = "sending"
    SENT = "sent"
    DELIVERED = "delivered"
    BOUNCED = "bounced"
    COMPLAINED = "complained"
    FAILED = "failed"
    UNCERTAIN = "uncertain"
    CANCELLED = "cancelled"
    SUPPRESSED = "suppressed"


STATE_MEANINGS: Final[dict[State, str]] = {
    State.PENDING: "accepted and on disk; waits for its time, its turn or its topic",
    State.SENDING: "claimed by a sender, handed to the transport within the next moments",
    State.SENT: "the transport took it",
    State.DELIVERED: "the recipient's server took it",
    State.BOUNCED: "the recipient's server refused it for good",
    State.COMPLAINED: "the recipient reported it as spam",
    State.FAILED: "given up: rejected, at once or after it was taken, expired, or out of attempts",
    State.UNCERTAIN: "the transport was called and nobody knows yet whether it took the mail",
    State.CANCELLED: "cancelled before it was handed over",
    State.SUPPRESSED: "not sent, because the address is on the suppression list",
}

MOVES: Final[dict[State, frozenset[State]]] = {
    State.PENDING: frozenset({State.SENDING, State.CANCELLED, State.SUPPRESSED, State.FAILED}),
    State.SENDING: frozenset({State.SENT, State.PENDING, State.FAILED, State.UNCERTAIN}),
    State.UNCERTAIN: frozenset({State.SENT, State.PENDING, State.FAILED}),
    # A provider may take a mail and then find that it won't send it (a virus): it has failed.
    State.SENT: frozenset({State.DELIVERED, State.BOUNCED, State.FAILED}),
    # A server may take a mail and bounce it later (RFC 3464): either order ends as bounced.
    State.DELIVERED: frozenset({State.COMPLAINED, State.BOUNCED}),
    State.BOUNCED: frozenset(),
    State.COMPLAINED: frozenset(),
    # Only by an operator's retry.
    State.FAILED: frozenset({State.PENDING}),
    State.CANCELLED: frozenset(),
    State.SUPPRESSED: frozenset(),
}


def way(old: State, new: State) -> list[State]:
    """The shortest series of allowed moves that ends in `new`; empty when there is none."""
    ways = [[old]]
    seen = {old}
    for path in ways:
        for state in sorted(MOVES[path[-1]] - seen):
            if state is new:
                return [*path[1:], new]
            seen.add(state)
            ways.append([*path, state])
    return []


UNFINISHED: Final = frozenset({State.PENDING, State.SENDING, State.UNCERTAIN})
HANDED_OVER: Final = frozenset({State.SENT, State.DELIVERED, State.BOUNCED, State.COMPLAINED})
GIVEN_UP: Final = frozenset({State.FAILED, State.SUPPRESSED})

REFERENCE_STATES: Final[dict[str, frozenset[State]]] = {
    "Created": frozenset({State.PENDING}),
    "Processed": frozenset({State.SENDING, State.UNCERTAIN}),
    "Sent": HANDED_OVER,
    "Failed": GIVEN_UP,
    "Stopped": frozenset({State.CANCELLED}),
}
"""The reference's words for states: derived when asked for, never stored."""


class Lane(StrEnum):
    """What is claimed first."""

    INTERACTIVE = "interactive"
    BULK = "bulk"


class WaitsFor(StrEnum):
    """Why a pending mail waits."""

    TURN = "turn"
    DUE_TIME = "due_time"
    TOPIC = "topic"
    ALONE = "alone"


WAITS_FOR_MEANINGS: Final[dict[WaitsFor, str]] = {
    WaitsFor.TURN: "may go now: waits for a slot of the rate and for mail before it",
    WaitsFor.DUE_TIME: "scheduled, or deferred by the transport: waits for due_at",
    WaitsFor.TOPIC: "its topic is paused",
    WaitsFor.ALONE: "its last hand-over ended the sender: waits to be handed over with no other",
}


class OutcomeKind(StrEnum):
    """What a transport says of one attempt."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    DEFERRED = "deferred"
    THROTTLED = "throttled"
    UNKNOWN = "unknown"


class Condition(StrEnum):
    """How a transport as a whole stands."""

    WORKING = "working"
    PAUSED = "paused"
    UNREACHABLE = "unreachable"
    HALTED = "halted"


CONDITION_MEANINGS: Final[dict[Condition, str]] = {
    Condition.WORKING: "takes mail, as far as is known",
    Condition.PAUSED: "its provider throttled or failed; one mail is tried after the pause",
    Condition.UNREACHABLE: "can't be reached; connecting is tried again and again",
    Condition.HALTED: "takes no mail until somebody mends what its reason says; then it goes on by"
    " itself",
}


class EventType(StrEnum):
    """What can be learnt about a mail."""

    ACCEPTED = "accepted"
    SENT = "sent"
    DEFERRED = "deferred"
    FAILED = "failed"
    UNCERTAIN = "uncertain"
    RESENT = "resent"
    CANCELLED = "cancelled"
    RESCHEDULED = "rescheduled"
    SUPPRESSED = "suppressed"
    DELIVERY = "delivery"
    BOUNCE = "bounce"
    COMPLAINT = "complaint"
    DELAY = "delay"
    REJECT = "reject"
    OPEN = "open"
    CLICK = "click"
    UNSUBSCRIBE = "unsubscribe"
    OTHER = "other"


REFERENCE_EVENTS: Final[dict[str, str]] = {
    "Delivery": "deliveries",
    "Bounce": "bounces",
    "Complaint": "complaints",
    "Open": "opens",
}
"""The reference's words for results, and the topic counter each is read from."""


class SuppressionReason(StrEnum):
    """Why an address is not to be written to."""

    BOUNCE = "bounce"
    COMPLAINT = "complaint"
    UNSUBSCRIBE = "unsubscribe"
    MANUAL = "manual"
    PROVIDER = "provider"
    """The provider's own list holds the address, so that it refuses mail to it untried."""


class CheckResult(StrEnum):
    """How something stands that `mailer doctor` has looked at."""

    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"


class LogFormat(StrEnum):
    """What log lines look like."""

    TEXT = "text"
    LOGFMT = "logfmt"
    JSON = "json"


class UncertainPolicy(StrEnum):
    """What becomes of an uncertain mail when no evidence comes."""

    RESEND = "resend"
    GIVE_UP = "give_up"


SCOPE_EVERYWHERE: Final = ""


def suppression_scope(topic_id: str | None) -> str:
    """The group within which a complaint or unsubscribe holds: `topic_id` up to the first `/`.

    A mail without a topic belongs to no group, so the suppression holds everywhere.
    """
    return (topic_id or SCOPE_EVERYWHERE).partition("/")[0]
