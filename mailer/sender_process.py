"""The process around a sender: what wakes it, when it sleeps, and how it ends.

SIGTERM, or the end of the supervisor, lets calls in flight end and be recorded. Whatever can't be
recorded in time is left to the supervisor's rescue.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import sys
from pathlib import Path
from typing import Final

from mailer import plugins
from mailer.asleep import Sleep
from mailer.begun import Begun, begun_path
from mailer.clock import Clock, SystemClock
from mailer.errors import StoreDamaged, StoreUnavailable
from mailer.sender import LEASE_US, Sender
from mailer.settings import Settings
from mailer.store import Store
from mailer.store.outcomes import rules_of
from mailer.wake import Ear

log = logging.getLogger("mailer.sender")

POLL_S: Final = 0.5
"""The longest sleep: what a lost wake-up costs."""
COALESCE_S: Final = 0.004
"""Answers that come back within so short a time share a commit."""
RETRY_S: Final = 0.2
SWITCH_S: Final = 0.0005
STOP_WITHIN_S: Final = 8.0

EXIT_DAMAGED: Final = 65
EXIT_HUNG: Final = 70


def main(settings: Settings, index: int) -> int:
    """Send until told to stop; the exit status."""
    # Threads that hand over wait for their slot: else they may get the interpreter 5 ms too late.
    sys.setswitchinterval(SWITCH_S)
    clock = SystemClock()
    transports = plugins.transports(plugins.load(), settings)
    store = Store(settings.database_path, rules_of(settings))
    waiting = Waiting(settings.database_path, str(index))
    try:
        with store.write():
            pid = os.getpid()
            number = store.senders.register(pid, process_started(pid), clock.mono_us() + LEASE_US)
        sender = Sender(
            store,
            transports,
            settings,
            clock,
            sender=number,
            takes_alone=index == 0,
            begun=Begun(settings.database_path, number).note,
            came_back=waiting.poke,
            jitter=random.random,
        )
        status = run(sender, store, clock, waiting)
        if status == 0:
            with store.write():
                store.senders.remove(number)
            begun_path(settings.database_path, number).unlink()
        return status
    except StoreDamaged as error:
        log.critical("%s", error)
        return EXIT_DAMAGED
    finally:
        waiting.close()
        store.close()


def run(sender: Sender, store: Store, clock: Clock, waiting: Waiting) -> int:
    """The loop; ends when told to stop, or with EXIT_HUNG when a transport never answers."""
    hung = False
    while True:
        if waiting.asked_to_stop and not waiting.stop_deadline_us:
            sender.stop()
            waiting.stop_deadline_us = clock.mono_us() + int(STOP_WITHIN_S * 1e6)
        if waiting.asked_to_stop and clock.mono_us() > waiting.stop_deadline_us:
            sender.give_up(sender.running(), "stopped before the transport answered")
            hung = True
        elif overdue := sender.overdue():
            sender.stop()
            sender.give_up(overdue, "the transport did not answer in the time it promised")
            hung = True
        done = _step(sender, waiting)
        if hung:
            return EXIT_HUNG
        if waiting.asked_to_stop and sender.at_rest:
            return 0
        if not done:
            waiting.sleep(_sleep_s(sender, store, clock))


def _step(sender: Sender, waiting: Waiting) -> int:
    """One step; while the store can't be written, only what must not be forgotten is tried."""
    try:
        return sender.step()
    except StoreUnavailable as error:
        log.warning("%s", error)
        with contextlib.suppress(StoreUnavailable):
            sender.record_only()
        waiting.sleep(RETRY_S)
        return 0


def _sleep_s(sender: Sender, store: Store, clock: Clock) -> float:
    """Until the next slot or due time, at most a polling interval."""
    sleep_s = POLL_S
    if sender.next_slot_us is not None:
        sleep_s = min(sleep_s, (sender.next_slot_us - clock.mono_us()) / 1e6)
    for queue in store.queue.names():
        due_at_ms = store.queue.next_due_at_ms(queue)
        if due_at_ms is not None and (early_ms := due_at_ms - clock.wall_ms()) > 0:
            sleep_s = min(sleep_s, early_ms / 1e3)
    return max(0.0, sleep_s)


class Waiting:
    """Everything a sender waits for, in one place to sleep."""

    def __init__(self, database: Path, name: str) -> None:
        self.stop_deadline_us = 0
        self._ear = Ear(database, name)
        self._sleep = Sleep(self._ear.socket)

    @property
    def asked_to_stop(self) -> bool:
        return self._sleep.stopping

    def poke(self) -> None:
        """Something has come back; from any thread."""
        self._sleep.poke()

    def sleep(self, at_most_s: float) -> None:
        """Until woken, signalled, orphaned, or an answer has come back."""
        if self._sleep.until(at_most_s):
            # Answers tend to come together; a new mail or a signal ends the wait for more.
            self._sleep.until(COALESCE_S, heed_pokes=False)
        self._ear.drain()

    def close(self) -> None:
        self._sleep.close()
        self._ear.close()


def process_started(pid: int) -> int:
    """When a process began, in the kernel's ticks: with the pid it names one process of a boot.

    0 when there is none, or it has ended and only waits to be reaped (proc_pid_stat(5)).
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return 0 if fields[0] in "ZX" else int(fields[19])
