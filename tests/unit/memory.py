"""A transport in memory that does what a test tells it, a clock that can be moved on, and senders
that work with both on a real store.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mailer.clock import SystemClock
from mailer.hookspecs import Envelope, Outcome, Quota
from mailer.sender import Sender
from mailer.settings import Settings, load
from mailer.store.migrate import migrate
from mailer.store.outcomes import rules_of
from mailer.vocabulary import OutcomeKind, State
from tests.store.world import World
from tests.waiting import until

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
    destination: str = "memory"
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


class Post:
    """A store and the senders that work on it, with these settings."""

    def __init__(self, path: Path, **environ: str) -> None:
        migrate(path)
        self._environ = environ
        rules = rules_of(load(environ))
        self.world = World(path, now_ms=SystemClock().wall_ms(), rules=rules)
        self.world.store.housekeeping.keep_reserve()
        self.clock = Clock()
        self.came_back = threading.Semaphore(0)
        self.begun: list[int] = []
        with self.world.store.write():
            self.world.store.transports.register("post", reports_events=False)

    def settings(self, rate: str = "500", **environ: str) -> Settings:
        return load({"MAX_SEND_PER_SECOND": rate, **self._environ, **environ})

    def sender(
        self,
        transport: Memory,
        *,
        takes_alone: bool = True,
        rate: str = "500",
        others: Mapping[str, Memory] = MappingProxyType({}),
        **settings: str,
    ) -> Sender:
        """With the transport `post`, and others."""
        return Sender(
            self.world.twin(),
            {"post": transport, **others},
            self.settings(rate, **settings),
            self.clock,
            sender=self.world.new_sender(),
            takes_alone=takes_alone,
            begun=self.begun.append,
            came_back=self.came_back.release,
            jitter=lambda: 0.0,
        )

    def step_until(self, sender: Sender, request_ids: Sequence[str], *states: State) -> None:
        """Work until these mails are in one of these states."""
        work(sender, lambda: set(self.world.states(request_ids)) <= set(states))


def work(sender: Sender, condition: Callable[[], object]) -> None:
    """Step after step until it is so."""

    def so() -> object:
        sender.step()
        return condition()

    until(so)
