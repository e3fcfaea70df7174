"""A store on a real file with a clock moved by hand, and what the tests in this folder do with it.

Times are plain numbers: `now_ms` of the wall, `now_us` of the boot.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mailer.hookspecs import Outcome, ProviderEvent
from mailer.mail import ClaimedMail, Content, NewBatch, NewMessage, Recipient
from mailer.pacing import Limit
from mailer.store import Store
from mailer.store.mails import Mail
from mailer.store.outcomes import Rules
from mailer.store.queue import Ask, Lease
from mailer.store.sent import Attempted
from mailer.vocabulary import EventType, Lane, OutcomeKind, State, UncertainPolicy

DAY_MS = 24 * 3600 * 1000
GRACE_MS = 900_000
RULES = Rules(
    max_age_ms=2 * DAY_MS, uncertain_grace_ms=GRACE_MS, uncertain_policy=UncertainPolicy.RESEND
)
START_MS = 1_700_000_000_000


@dataclass
class World:
    """One database, one clock, one store; `twin()` opens it once more."""

    path: Path
    now_ms: int = START_MS
    now_us: int = 5_000_000_000
    rules: Rules = RULES
    stores: list[Store] = field(default_factory=list)
    _numbers: int = 0

    def __post_init__(self) -> None:
        self.store = self.twin()

    def twin(self) -> Store:
        """Another Store of the same file, as another process would open."""
        self.stores.append(Store(self.path, self.rules))
        return self.stores[-1]

    def close(self) -> None:
        for store in self.stores:
            store.close()

    def pass_s(self, seconds: float) -> None:
        self.now_ms += int(seconds * 1000)
        self.now_us += int(seconds * 1_000_000)

    def batch(
        self, *messages: NewMessage, due_in_s: float = 0, transport: str = "post"
    ) -> NewBatch:
        self._numbers += 1
        return NewBatch(
            batch_id=f"{self._numbers:x}",
            messages=messages,
            transport=transport,
            due_at_ms=self.now_ms + int(due_in_s * 1000),
            accepted_at_ms=self.now_ms,
        )

    def accept(
        self, *emails: str, due_in_s: float = 0, transport: str = "post", **content: Any
    ) -> list[str]:
        """One message to these addresses; the request ids."""
        batch = self.batch(message(*emails, **content), due_in_s=due_in_s, transport=transport)
        with self.store.write():
            self.store.batches.accept(batch, max_queued=10**9)
        return [f"{batch.batch_id}-{n}" for n in range(len(emails))]

    def new_sender(self) -> int:
        with self.store.write():
            return self.store.senders.register(1, 1, self.now_us + 10**9)

    def claim_leases(self, store: Store | None = None, **changes: Any) -> list[Lease]:
        store = store or self.store
        with store.write():
            return store.queue.claim(ask(**changes), now_ms=self.now_ms, now_us=self.now_us).leases

    def claim(self, store: Store | None = None, **changes: Any) -> list[ClaimedMail]:
        """Every mail of the leases of one claim, in their order."""
        return [mail for lease in self.claim_leases(store, **changes) for mail in lease.mails]

    def claim_ids(self, store: Store | None = None, **changes: Any) -> list[str]:
        return [mail.request_id for mail in self.claim(store, **changes)]

    def record(
        self,
        mails: ClaimedMail | Iterable[ClaimedMail],
        kind: OutcomeKind = OutcomeKind.ACCEPTED,
        detail: str = "",
        **outcome: Any,
    ) -> None:
        """The same outcome for each."""
        mails = [mails] if isinstance(mails, ClaimedMail) else list(mails)
        said = Outcome(kind, detail, **outcome)
        with self.store.write():
            self.store.outcomes.record(
                [Attempted(mail.id, said, self.now_ms, self.now_ms) for mail in mails],
                now_ms=self.now_ms,
                jitter=lambda: 0.0,
            )

    def accept_and_claim(self, **content: Any) -> ClaimedMail:
        """A mail in flight."""
        (request_id,) = self.accept("ann@example.org", **content)
        (claimed,) = [mail for mail in self.claim() if mail.request_id == request_id]
        return claimed

    def settle(self) -> int:
        with self.store.write():
            return self.store.outcomes.settle(now_ms=self.now_ms, step=1000)

    def rescue(self, sender: int, *, begun_us: int | None = None) -> tuple[int, int]:
        with self.store.write():
            return self.store.outcomes.rescue(
                sender, begun_us=self.now_us if begun_us is None else begun_us, now_ms=self.now_ms
            )

    def learn(self, *events: ProviderEvent) -> int:
        with self.store.write():
            return self.store.events.learn(events, now_ms=self.now_ms)

    def mail(self, request_id: str) -> Mail:
        mail = self.store.mails.get(request_id)
        assert mail is not None
        return mail

    def state(self, request_id: str) -> State:
        return self.mail(request_id).state

    def states(self, request_ids: Sequence[str]) -> list[State]:
        return [self.state(request_id) for request_id in request_ids]

    def said(self, request_id: str) -> list[str]:
        """The types of a mail's events, oldest first."""
        return [event.type for event in self.store.mails.events(self.mail(request_id).id)]

    def counters(self, topic_id: str = "") -> dict[str, int]:
        """A topic's counters that are not zero."""
        topic = self.store.topics.get(topic_id)
        assert topic is not None
        return {name: count for name, count in topic.counters.items() if count}


class HandClock:
    """The world's clock, as mailer reads one."""

    boot_id = "boot"

    def __init__(self, world: World) -> None:
        self._world = world

    def wall_ms(self) -> int:
        return self._world.now_ms

    def mono_us(self) -> int:
        return self._world.now_us


def new_world(directory: Path, migrated: Path) -> World:
    """On a copy of a migrated database, which is quicker than migrating."""
    path = directory / "mailer.db"
    shutil.copy(migrated, path)
    return World(path)


def message(*emails: str, lane: Lane = Lane.BULK, **content: Any) -> NewMessage:
    return NewMessage(
        Content("Hello", html="<p>Hello</p>", lane=lane, **content),
        tuple(Recipient(email) for email in emails),
    )


def people(count: int) -> list[str]:
    return [f"user{n}@example.org" for n in range(count)]


def ask(*, limit: Limit | None = None, **changes: Any) -> Ask:
    """For all that waits, without a limit, one recipient a call."""
    asked: dict[str, Any] = {"sender": 1, "transport": "post", "batch_size": 1, "calls": 1000}
    asked |= changes
    usual = {
        "queues": (asked["transport"],),
        "rates": {asked["transport"]: limit} if limit else {},
        "calls_bulk": asked["calls"],
    }
    return Ask(**(usual | asked))


def rate(per_second: float) -> Limit:
    return Limit.per_second(per_second)


def event(kind: EventType, **about: Any) -> ProviderEvent:
    """A provider's event; without an id of its own it is always another one."""
    usual: dict[str, Any] = {"at_ms": START_MS, "source": "provider", "source_event_id": ""}
    return ProviderEvent(kind, **(usual | about))
