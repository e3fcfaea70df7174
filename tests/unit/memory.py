"""A transport in memory that does what a test tells it, and a clock that can be moved on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from mailer.clock import SystemClock
from mailer.hookspecs import Envelope, Outcome, Quota
from mailer.vocabulary import OutcomeKind

Sends = Callable[[Sequence[Envelope]], Any]


def accepted(mails: Sequence[Envelope]) -> list[Outcome]:
    return [Outcome(OutcomeKind.ACCEPTED)] * len(mails)


def raising(error: BaseException) -> Sends:
    def send(mails: Sequence[Envelope]) -> list[Outcome]:
        raise error

    return send


@dataclass
class Clock(SystemClock):
    """The machine's clock, and a hand on it."""

    ahead_us: int = 0

    def __post_init__(self) -> None:
        super().__init__()

    def mono_us(self) -> int:
        return super().mono_us() + self.ahead_us


@dataclass
class Memory:
    """A transport; `sends` and `opens` are what its sessions do."""

    sends: Sends = accepted
    opens: Callable[[], object] = bool
    batch_size: int = 1
    max_in_flight: int = 4
    call_timeout_s: float = 1.0
    reports_events: bool = False
    opened: int = 0
    closed: int = 0
    sent: list[str] = field(default_factory=list)

    def open(self) -> Memory:
        self.opened += 1
        self.opens()
        return self

    def send(self, envelopes: Sequence[Envelope]) -> Any:
        self.sent += [envelope.request_id for envelope in envelopes]
        return self.sends(envelopes)

    def close(self) -> None:
        self.closed += 1

    def quota(self) -> Quota:
        return Quota()
