"""Sessions of a transport in memory, and what they report to whoever gives them calls."""

from __future__ import annotations

import queue
import threading
from dataclasses import replace

from mailer.calls import Call, Finished
from mailer.handover import Sessions
from mailer.hookspecs import Envelope
from mailer.mail import ClaimedMail, Recipient
from mailer.pacing import Slot
from mailer.vocabulary import Lane, OutcomeKind
from tests.messages import ENVELOPE
from tests.unit.memory import Clock, Memory

WITHIN_S = 10.0


class Desk:
    """Sessions of one transport, and what they reported."""

    def __init__(self, transport: Memory) -> None:
        self.transport = transport
        self.clock = Clock()
        self.began: list[tuple[Call, int]] = []
        self.finished: queue.SimpleQueue[Finished] = queue.SimpleQueue()
        self.heard = threading.Semaphore(0)
        self.sessions = Sessions(
            "memory",
            transport,
            self.clock,
            began=lambda call, at_us: self.began.append((call, at_us)),
            finished=self.finished.put,
            opened=self.heard.release,
        )

    def grow(self) -> None:
        """Ask for sessions and wait until the answer has come."""
        self.sessions.grow()
        assert self.heard.acquire(timeout=WITHIN_S)

    def start(self, *request_ids: str, early_us: int = 0, lasts_us: int = 10**7) -> Call:
        at_us = self.clock.mono_us() + early_us
        slot = Slot(at_us, at_us + lasts_us, len(request_ids), (at_us,))
        call = Call(7, slot, tuple(map(claimed, request_ids)), compose)
        self.sessions.start([call])
        return call

    def end(self) -> Finished:
        return self.finished.get(timeout=WITHIN_S)

    def outcomes(self) -> list[tuple[OutcomeKind, str]]:
        """Of the next call that ends."""
        ended = self.end()
        assert ended.outcomes is not None
        return [(outcome.kind, outcome.detail) for outcome in ended.outcomes]


def claimed(request_id: str) -> ClaimedMail:
    number = int(request_id.partition("-")[2])
    return ClaimedMail(number, request_id, 1, Recipient("ann@example.net"), 0, 0, 1, Lane.BULK)


def compose(mail: ClaimedMail) -> Envelope:
    if mail.request_id.startswith("bad"):
        raise ValueError("what is in it can't be said")
    return replace(ENVELOPE, request_id=mail.request_id)
