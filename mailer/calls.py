"""One call of a transport: its mails composed, handed over, and its answer made sound.

Whatever a plugin raises or answers becomes an outcome of each mail.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mailer.errors import TransportUnreachable
from mailer.hookspecs import Envelope, Outcome, Session, Transport
from mailer.mail import ClaimedMail
from mailer.pacing import Slot
from mailer.reporting import unexpected
from mailer.vocabulary import OutcomeKind

log = logging.getLogger("mailer.handover")


@dataclass(frozen=True, slots=True)
class Call:
    """Mails to be handed over together, and the slot to do it in."""

    slot_id: int
    slot: Slot
    mails: tuple[ClaimedMail, ...]
    compose: Callable[[ClaimedMail], Envelope]
    trial: bool = False
    """Finds out for all whether the provider takes mail again."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A call that has ended. `outcomes` is None when nothing was handed over."""

    transport: str
    call: Call
    outcomes: Sequence[Outcome] | None
    started_at_ms: int
    ended_at_ms: int


def deadline_us(call: Call, transport: Transport) -> int:
    """When a call has lasted longer than its transport promised."""
    return call.slot.until_us + int(transport.call_timeout_s * 1_000_000)


def composed(call: Call) -> tuple[list[Envelope], dict[int, Outcome]]:
    """The call's envelopes, and by mail id those that can't be composed."""
    envelopes = []
    refused = {}
    for mail in call.mails:
        try:
            envelopes.append(call.compose(mail))
        except Exception as error:
            why = f"the mail can't be composed: {type(error).__name__}"
            refused[mail.id] = Outcome(OutcomeKind.REJECTED, why)
    return envelopes, refused


def with_refused(
    call: Call, refused: dict[int, Outcome], outcomes: Sequence[Outcome]
) -> list[Outcome]:
    """One outcome for each mail, in the call's order."""
    of_sent = iter(outcomes)
    return [refused[mail.id] if mail.id in refused else next(of_sent) for mail in call.mails]


def send(name: str, session: Session, envelopes: list[Envelope]) -> list[Outcome]:
    """Call the plugin; what it should not do becomes `unknown`."""
    if not envelopes:
        return []
    try:
        outcomes = [_sound(outcome) for outcome in session.send(envelopes)]
    except TransportUnreachable:
        raise
    except BaseException as error:  # even SystemExit must not leave a call without an end
        unexpected(error, f"transport {name}")
        why = f"the transport raised {type(error).__name__}"
        return [Outcome(OutcomeKind.UNKNOWN, why)] * len(envelopes)
    if len(outcomes) != len(envelopes):
        why = f"the transport gave {len(outcomes)} outcomes for {len(envelopes)} mails"
        log.error("%s: %s", name, why)
        return [Outcome(OutcomeKind.UNKNOWN, why)] * len(envelopes)
    return outcomes


def _sound(outcome: Any) -> Outcome:
    """The outcome as it can be written down: a plugin may give anything."""
    try:
        kind = OutcomeKind(outcome.kind)
        wait_s = float(outcome.retry_after_s or 0.0)
        detail, provider_id = (_text(words) for words in (outcome.detail, outcome.provider_id))
    except (AttributeError, TypeError, ValueError):
        why = f"the transport gave a {type(outcome).__name__} that is no outcome"
        return Outcome(OutcomeKind.UNKNOWN, why)
    usable = math.isfinite(wait_s) and wait_s > 0
    return Outcome(
        kind,
        detail,
        provider_id or None,
        wait_s if usable else None,
        concerns_all=bool(getattr(outcome, "concerns_all", False)),
        halts=bool(getattr(outcome, "halts", False)),
    )


def _text(words: object) -> str:
    """A provider's words without half characters, which no database takes."""
    return str(words or "").encode("utf-8", "replace").decode()
