"""A deliverer on a real database, moved on step by step, with a clock moved by hand."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ipaddress import ip_network
from typing import Any

from mailer_webhook import mailer_event
from mailer_webhook.connecting import Connector
from mailer_webhook.deliverer import Deliverer
from mailer_webhook.endpoints import Choice, Endpoint, Endpoints

from mailer.hookspecs import Event, ProviderEvent
from mailer.records import OwnRecords
from mailer.vocabulary import EventType
from tests.store.world import HandClock, World

LOOPBACK = (ip_network("127.0.0.0/8"),)


class Access(OwnRecords):
    """`hookspecs.Access`, without a process of its own."""

    def __init__(self, world: World) -> None:
        super().__init__(world.store, "webhook", HandClock(world))
        self.stopping = False
        self.learnt: list[ProviderEvent] = []
        self.commits = 0
        self._woken = threading.Event()

    @contextmanager
    def write(self) -> Iterator[None]:
        with super().write():
            yield
        self.commits += 1

    def learn(self, events: Sequence[ProviderEvent]) -> int:
        self.learnt.extend(events)
        return super().learn(events)

    def wait(self, timeout_s: float) -> None:
        self._woken.wait(timeout_s)
        self._woken.clear()

    def wake(self) -> None:
        self._woken.set()


class Desk:
    """The plugin's shelf, its deliverer, and the events that come in."""

    def __init__(self, world: World, **options: Any) -> None:
        self.world = world
        self.access = Access(world)
        self.endpoints = Endpoints(self.access.shelf)
        self._options = options
        self._places = 0
        self.start_anew()

    def start_anew(self) -> None:
        """As after a kill: what the deliverer had in memory is gone."""
        self.deliverer = Deliverer(
            self.access,
            Connector(LOOPBACK),
            now_ms=lambda: self.world.now_ms,
            jitter=lambda: 0.5,
            **self._options,
        )

    def add(self, url: str, **choice: Any) -> str:
        made = Endpoint.made(Choice(url=url, **choice), now_ms=self.world.now_ms)
        with self.access.write():
            self.endpoints.put(made)
        return made.endpoint_id

    def secret(self, endpoint_id: str) -> str:
        return self.endpoints.get(endpoint_id).secrets[0].key

    def happen(self, mail_id: str | None, type_: str = "delivery", **fields: Any) -> str:
        """One event, as the notifier tells it; its id."""
        with self.access.write():
            return self.tell(self.event(mail_id, type_, **fields))

    def tell(self, event: Event) -> str:
        """Within a transaction."""
        mailer_event(event, self.access.shelf)
        return event.id

    def event(self, mail_id: str | None, type_: str = "delivery", **fields: Any) -> Event:
        self._places += 1
        told: dict[str, Any] = {
            "batch_id": "b1",
            "topic_id": "news/1",
            "recipient": "ann@example.com",
            "tags": {},
            "source": "ses",
            "detail": "",
            "permanent": False,
            "already_suppressed": False,
            "automated": False,
            "raw": "SECRET-RAW",
        }
        return Event(
            id=f"{self._places}-{self.world.now_ms:x}",
            type=EventType(type_),
            at_ms=self.world.now_ms,
            mail_id=mail_id,
            **{**told, **fields},
        )

    def step(self) -> None:
        """Once around the deliverer's loop; the jobs begun have ended and are written down."""
        self.deliverer.step()
        while self.deliverer.busy:
            self.access.wait(20)
            self.deliverer.write_down()

    def settle(self) -> None:
        """Until nothing more goes out without time passing."""
        while True:
            before = self.records()
            self.step()
            if self.records() == before:
                return

    def pass_until(self, end_ms: int) -> None:
        """Have the clock go from one due time to the next, until then."""
        while True:
            self.settle()
            next_ms = max(self.deliverer.next_at_ms(), self.world.now_ms + 1)
            if next_ms > end_ms:
                self.world.now_ms = end_ms
                return
            self.world.now_ms = next_ms

    def records(self) -> list[tuple[str, bytes]]:
        return self.access.shelf.read(limit=100_000)

    def waiting(self, kind: str = "") -> int:
        """Deliveries on the shelf: `new` or `behind`, or both."""
        kinds = [kind] if kind else ["new", "behind"]
        return sum(len(self.access.shelf.read(f"{k}/", limit=100_000)) for k in kinds)
