"""A job: a thread that posts some deliveries of one stream, one request after the other.

It touches neither the shelf nor the endpoint's record; what it learnt, it carries.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Final

from mailer_webhook import payload
from mailer_webhook.client import Session
from mailer_webhook.connecting import Connector
from mailer_webhook.endpoints import Endpoint
from mailer_webhook.queue import Delivery
from mailer_webhook.schedule import Answer
from mailer_webhook.signing import signed_headers

JOB_S: Final = 1.0
"""After so long a job begins no further request."""


@dataclass(slots=True)
class Job:
    """Deliveries of one stream, and what became of those that were tried."""

    endpoint: Endpoint
    stream: int
    deliveries: list[Delivery]
    tried: list[tuple[list[Delivery], Answer]] = field(default_factory=list)

    @property
    def key(self) -> tuple[str, int]:
        return self.endpoint.endpoint_id, self.stream

    def start(
        self, connector: Connector, now_ms: Callable[[], int], ended: Callable[[Job], None]
    ) -> None:
        """Work in a thread of its own, and call `ended` there, whatever happens."""
        name = f"webhook {self.endpoint.endpoint_id}.{self.stream}"
        work = (connector, now_ms, ended)
        threading.Thread(target=self._run, args=work, name=name, daemon=True).start()

    def _run(
        self, connector: Connector, now_ms: Callable[[], int], ended: Callable[[Job], None]
    ) -> None:
        deadline = time.monotonic() + JOB_S
        try:
            with closing(Session(connector, self.endpoint.choice.url)) as session:
                for together in self._requests():
                    answer = post(session, self.endpoint, together, now_ms())
                    self.tried.append((together, answer))
                    if not answer.good or time.monotonic() >= deadline:
                        break
        finally:
            ended(self)

    def _requests(self) -> Iterator[list[Delivery]]:
        """What goes into one request. What has failed goes alone: it may be what is wrong."""
        together: list[Delivery] = []
        for delivery in self.deliveries:
            if together and (
                delivery.attempts > 0
                or together[-1].attempts > 0
                or len(together) == self.endpoint.choice.batch_size
            ):
                yield together
                together = []
            together.append(delivery)
        if together:
            yield together


def post(session: Session, endpoint: Endpoint, together: Sequence[Delivery], now_ms: int) -> Answer:
    """One request with these deliveries, signed."""
    batch = endpoint.choice.batch_size > 1
    webhook_id, body = payload.request(together, batch=batch, now_ms=now_ms)
    keys = endpoint.signing_keys(now_ms)
    return session.post(body, signed_headers(webhook_id, body, secrets=keys, now_ms=now_ms))
