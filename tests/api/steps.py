"""What a sender and a provider would do, done to the database of a served API."""

from __future__ import annotations

import random
from contextlib import closing

from mailer.clock import SystemClock
from mailer.hookspecs import Outcome
from mailer.mail import ClaimedMail
from mailer.store.queue import Ask
from mailer.store.sent import Attempted
from mailer.vocabulary import OutcomeKind
from tests.api.service import Service

CLOCK = SystemClock()
BROWSER = {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0"}


def claim_all(service: Service) -> list[ClaimedMail]:
    """Lease all due mail, as a sender does before it hands it over."""
    with closing(service.store()) as store:
        with store.write():
            sender = store.senders.register(1, 1, CLOCK.mono_us() + 60_000_000)
            ask = Ask(sender, "maildir", ("maildir",), {}, 1000, 10, 10)
            leases = store.queue.claim(ask, now_ms=CLOCK.wall_ms(), now_us=CLOCK.mono_us()).leases
        return [mail for lease in leases for mail in lease.mails]


def record(
    service: Service, mails: list[ClaimedMail], kind: OutcomeKind, *, ago_ms: int = 0
) -> None:
    """Record that the transport said this of each, a while ago."""
    now_ms = CLOCK.wall_ms() - ago_ms
    with closing(service.store()) as store, store.write():
        store.transports.register("maildir", reports_events=False)
        store.outcomes.record(
            [Attempted(mail.id, Outcome(kind), now_ms, now_ms) for mail in mails],
            now_ms=now_ms,
            jitter=random.random,
        )


def sent(service: Service, topic_id: str, email: str = "reader@example.com") -> str:
    """The id of a mail that went out a while ago."""
    service.send(email, topic_id=topic_id)
    (mail,) = claim_all(service)
    # Later than a second ago, an open would be taken for a machine's.
    record(service, [mail], OutcomeKind.ACCEPTED, ago_ms=60_000)
    return mail.request_id


def opens(service: Service, topic_id: str) -> tuple[int, int, int]:
    """(unique, total, automated)."""
    found = service.get(f"/v1/topics/{topic_id}").json["opens"]
    return found["unique"], found["total"], found["automated"]
