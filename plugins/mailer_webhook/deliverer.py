"""The deliverer: a worker that tells endpoints of events, until it is asked to stop.

Its one thread alone reads and writes the shelf; jobs post. There is at most one job for each stream
of an endpoint, so that no endpoint waits for another, and what is in memory is bounded by the
number of endpoints. What was posted is written down when its job has ended, of several jobs in one
commit: a kill in between makes it come again, under the same webhook-id.
"""

from __future__ import annotations

import logging
import queue
import random
import time
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from mailer.errors import StoreUnavailable
from mailer.hookspecs import Access, ProviderEvent
from mailer.vocabulary import EventType
from mailer_webhook import replay
from mailer_webhook.connecting import Connector
from mailer_webhook.endpoints import Endpoint, Endpoints
from mailer_webhook.jobs import Job
from mailer_webhook.queue import STREAMS, Delivery, Stream, strays
from mailer_webhook.schedule import FAILURES_TO_PROBE, Answer, Fate, decide

DELIVERIES_A_JOB: Final = 100
JOBS_A_COMMIT: Final = 10
LONGEST_SLEEP_S: Final = 5.0
TIDY_EVERY_MS: Final = 3_600_000
STOP_WITHIN_S: Final = 5.0

_log = logging.getLogger("mailer.webhook")


class Deliverer:
    """Made once in the worker's process."""

    def __init__(
        self,
        access: Access,
        connector: Connector,
        *,
        now_ms: Callable[[], int],
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._access = access
        self._connector = connector
        self._now_ms = now_ms
        self._jitter = jitter
        self._endpoints = Endpoints(access.shelf)
        self._busy: set[tuple[str, int]] = set()
        self._ended: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._unwritten: list[Job] = []
        self._tidy_at_ms = 0
        self._replaying = False

    @property
    def busy(self) -> int:
        """How many jobs there are, those included whose end is not written down."""
        return len(self._busy)

    def run(self, stop_within_s: float = STOP_WITHIN_S) -> None:
        """Deliver until `access.stopping`; what is in flight then is waited for, but not long."""
        while not self._access.stopping:
            try:
                self.step()
                sleep_s = (self.next_at_ms() - self._now_ms()) / 1000
            except StoreUnavailable as error:
                _log.warning("webhooks wait for the database: %s", error)
                sleep_s = LONGEST_SLEEP_S
            self._access.wait(min(max(0.0, sleep_s), LONGEST_SLEEP_S))
        deadline = time.monotonic() + stop_within_s
        while self._busy and (left_s := deadline - time.monotonic()) > 0:
            self._access.wait(left_s)
            self.write_down()

    def step(self) -> None:
        """Write down what has ended, and begin what may go now."""
        self.write_down()
        self._tell_of_switched_off()
        self._replaying = False
        endpoints = self._endpoints.all()
        for endpoint in endpoints:
            if endpoint.enabled and endpoint.health.paused_until_ms <= self._now_ms():
                self._replaying |= replay.go_on(self._access, endpoint)
                self._begin(endpoint)
        if self._now_ms() >= self._tidy_at_ms or not endpoints:  # then there is no more to do
            self._tidy()

    def next_at_ms(self) -> int:
        """When something is due that nobody tells of: a retry, the end of a pause, tidying.

        Or now, when a replay goes on.
        """
        if self._replaying:
            return self._now_ms()
        times = [self._tidy_at_ms]
        for endpoint in self._endpoints.all():
            if not endpoint.enabled:
                continue
            paused_ms = endpoint.health.paused_until_ms
            if paused_ms > self._now_ms():
                times.append(paused_ms)
                continue
            free = set(range(STREAMS)) - {n for id_, n in self._busy if id_ == endpoint.endpoint_id}
            if endpoint.health.probing and len(free) < STREAMS:
                continue  # the end of its one job will tell
            due = (self._stream(endpoint, number).next_due_at_ms() for number in free)
            times.extend(due_ms for due_ms in due if due_ms is not None)
        return min(times)

    def _stream(self, endpoint: Endpoint, number: int) -> Stream:
        return Stream(self._access.shelf, endpoint.endpoint_id, number)

    def _begin(self, endpoint: Endpoint) -> None:
        """Begin a job for each stream that has something; one request in all, when probing."""
        probing = endpoint.health.probing
        busy = {number for id_, number in self._busy if id_ == endpoint.endpoint_id}
        if probing and busy:
            return
        for n in range(STREAMS):
            number = (n + endpoint.health.failures) % STREAMS  # each has its turn at probing
            deliveries = [] if number in busy else self._ready(self._stream(endpoint, number))
            if deliveries:
                job = Job(endpoint, number, deliveries[:1] if probing else deliveries)
                try:
                    job.start(self._connector, self._now_ms, self._job_ended)
                except RuntimeError:
                    return  # no memory for another thread: when one ends there is
                self._busy.add(job.key)
                if probing:
                    return

    def _job_ended(self, job: Job) -> None:
        """Called by the job's thread."""
        self._ended.put(job)
        self._access.wake()

    def _ready(self, stream: Stream) -> list[Delivery]:
        while True:
            ready, blocked = stream.ready(self._now_ms(), DELIVERIES_A_JOB)
            if not blocked:
                return ready
            with self._access.write():
                for delivery in blocked:
                    stream.put_behind(delivery)

    def write_down(self) -> None:
        """What became of the jobs that have ended; one that could not be written stays here."""
        while not self._ended.empty():
            self._unwritten.append(self._ended.get())
        while jobs := self._unwritten[:JOBS_A_COMMIT]:
            with self._access.write():
                for job in jobs:
                    endpoint = self._endpoints.find(job.endpoint.endpoint_id)
                    if endpoint is not None:  # else it was removed meanwhile
                        self._endpoints.put(self._settled(job, endpoint))
            del self._unwritten[: len(jobs)]
            self._busy -= {job.key for job in jobs}

    def _settled(self, job: Job, endpoint: Endpoint) -> Endpoint:
        """The endpoint as the job leaves it; its deliveries are written down."""
        stream = self._stream(endpoint, job.stream)
        now_ms = self._now_ms()
        for together, answer in job.tried:
            fates = [self._settle(stream, delivery, answer, now_ms) for delivery in together]
            before = endpoint.health
            endpoint = msgspec.structs.replace(
                endpoint,
                health=before.after(answer, now_ms),
                delivered=endpoint.delivered + fates.count(Fate.DONE),
                given_up=endpoint.given_up + fates.count(Fate.GIVEN_UP),
            )
            reason = before.reason_to_switch_off(answer, now_ms)
            if reason and endpoint.enabled:
                endpoint = endpoint.switched_off(reason, now_ms, told=False)
            _report(endpoint, answer, fates)
        return endpoint

    def _settle(self, stream: Stream, delivery: Delivery, answer: Answer, now_ms: int) -> Fate:
        first_ms = delivery.first_tried_at_ms
        decision = decide(
            answer,
            attempt=delivery.attempts + 1,
            first_tried_at_ms=now_ms if first_ms is None else first_ms,
            now_ms=now_ms,
            jitter=self._jitter(),
        )
        stream.settle(delivery, decision, now_ms)
        return decision.fate

    def _tell_of_switched_off(self) -> None:
        """An event for each endpoint that was; told again after a crash, it is stored once."""
        untold = [endpoint for endpoint in self._endpoints.all() if not endpoint.off_told]
        if not untold:
            return
        self._access.learn([_event(endpoint) for endpoint in untold])
        with self._access.write():
            for endpoint in untold:
                stored = self._endpoints.find(endpoint.endpoint_id)
                if stored is not None and stored.off_at_ms == endpoint.off_at_ms:
                    self._endpoints.put(msgspec.structs.replace(stored, off_told=True))

    def _tidy(self) -> None:
        """Drop what is left of endpoints that were removed, some at a time."""
        known = [endpoint.endpoint_id for endpoint in self._endpoints.all()]
        found = strays(self._access.shelf, known)
        if found:
            with self._access.write():
                for key in found:
                    self._access.shelf.remove(key)
            self._tidy_at_ms = 0
        else:
            self._tidy_at_ms = self._now_ms() + TIDY_EVERY_MS


def _event(endpoint: Endpoint) -> ProviderEvent:
    return ProviderEvent(
        EventType.OTHER,
        endpoint.off_at_ms or 0,
        source="webhook",
        source_event_id=f"{endpoint.endpoint_id} off {endpoint.off_at_ms}",
        detail=f"webhook endpoint {endpoint.endpoint_id} was switched off: {endpoint.off_reason}",
    )


def _report(endpoint: Endpoint, answer: Answer, fates: Sequence[Fate]) -> None:
    """To the log, in which a receiver's words have no place: they may repeat what was sent."""
    said = answer.detail if answer.status is None else f"status {answer.status}"
    if endpoint.health.failures == FAILURES_TO_PROBE:
        _log.warning("webhook endpoint %s fails again and again: %s", endpoint.endpoint_id, said)
    if given_up := fates.count(Fate.GIVEN_UP):
        _log.warning(
            "webhook endpoint %s: %d events given up: %s", endpoint.endpoint_id, given_up, said
        )
    if not endpoint.enabled and not endpoint.off_told:
        _log.warning("webhook endpoint %s was switched off: %s", endpoint.endpoint_id, said)
