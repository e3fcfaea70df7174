"""The supervisor: keeps all others alive, rescues what dead senders have left, runs the duties.

A signal handler only leaves a note for the loop. The loop compares the children that should live
with those that do and acts on the difference. Mail of a sender is taken from it only when its
process is gone: one that holds a lease past its time is killed first.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import socket
from collections.abc import Callable, Sequence
from typing import Final

from mailer import duties, plugins
from mailer.begun import begun_path, last_begun_us
from mailer.children import Children, Ended
from mailer.clock import Clock, SystemClock
from mailer.detours import warn_of_stranded
from mailer.errors import StoreDamaged, StoreUnavailable
from mailer.metrics import STARTS
from mailer.plugin_processes import PluginProcesses
from mailer.sender import LEASE_US
from mailer.sender_process import EXIT_DAMAGED, process_started
from mailer.settings import Settings
from mailer.store import Store
from mailer.store.housekeeping import SupervisorLock
from mailer.store.outcomes import rules_of
from mailer.store.senders import Sender
from mailer.store.verify import verify
from mailer.systemd import Tell, teller

log = logging.getLogger("mailer.supervisor")

TICK_S: Final = 0.25
LOOK_US: Final = 1_000_000
TELL_US: Final = 1_000_000
STOP_WITHIN_S: Final = 9.0
LOCK_TIMEOUT_S: Final = 2.0
WRITABLE_FOR_US: Final = 10_000_000
"""A lease counts as run out only when its holder could have renewed it for so long."""


def main(settings: Settings, *, with_api: bool = False, notify_socket: str | None = None) -> int:
    """Run until SIGTERM or SIGINT; the exit status.

    systemd, where it listens, is told that this is ready once every sender has begun.

    Raises StoreDamaged, SchemaMismatch, StoreUnavailable or StoreInUse when it can't begin.
    """
    verify(settings.database_path)
    lock = SupervisorLock(settings.database_path)
    manager = plugins.load()
    transports = plugins.transports(manager, settings)
    clock = SystemClock()
    store = Store(settings.database_path, rules_of(settings), LOCK_TIMEOUT_S)
    quotas = duties.Quotas(transports)
    check = duties.FileCheck(settings.database_path)
    try:
        with store.write():
            for name, transport in transports.items():
                store.transports.register(name, reports_events=transport.reports_events)
            store.cursors.register(plugins.event_hooks(manager).keys())
        of_plugins = PluginProcesses(store, manager, settings)
        of_plugins.ask()
        always: dict[str, Sequence[str]] = {
            f"sender {n}": ("sender", str(n)) for n in range(settings.senders)
        }
        if with_api:
            always["api"] = ("serve", "--until-stdin-ends")
        supervisor = Supervisor(
            store,
            clock,
            Children(lambda: {**always, **of_plugins.wanted()}),
            settings.senders,
            teller(notify_socket),
        )
        supervisor.begin()
        warn_of_stranded(store, transports)
        quotas.ask()
        store.housekeeping.keep_reserve()
        schedule = duties.plan(
            store, settings, clock, quotas, check, of_plugins.ask, alive=supervisor.tell
        )
        return supervisor.run(schedule.run_pending, check.damage)
    finally:
        store.close()
        lock.release()


class Supervisor:
    """One supervisor of one database."""

    def __init__(
        self, store: Store, clock: Clock, children: Children, senders: int, tell: Tell
    ) -> None:
        self._store = store
        self._clock = clock
        self._children = children
        self._senders = senders
        self._tell = tell
        self._ready = False
        self._next_tell_us = 0
        self._stopping = False
        self._stop_deadline_us = 0
        self._writable_since_us = clock.mono_us()
        self._next_look_us = 0
        self._holder = 0
        self._holder_since_us = 0
        self._woken, self._wake = socket.socketpair()

    def begin(self) -> None:
        """Settle what earlier processes have left, and watch for signals."""
        now_us = self._clock.mono_us()
        self._store.measures.add(STARTS, ("supervisor",))
        with self._store.write():
            new_boot = self._store.senders.adopt_boot(self._clock.boot_id)
            wall_ms = self._clock.wall_ms()
            self._store.windows.begin(new_boot=new_boot, wall_ms=wall_ms, mono_us=now_us)
            if new_boot:
                self._store.slots.carry_over(now_us)
                self._store.transports.forget_blocks()
        self._rescue()
        self._woken.setblocking(False)
        self._wake.setblocking(False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note_stop)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)

    def _note_stop(self, _signal: int, _frame: object) -> None:
        self._stopping = True

    def run(self, run_duties: Callable[[], None], damage: Callable[[], Exception | None]) -> int:
        """The loop; 0 when told to stop, 1 when the database must not be sent from."""
        status = 0
        while True:
            now_us = self._clock.mono_us()
            ended = self._children.reap(now_us)
            if any(child.status == EXIT_DAMAGED for child in ended) or damage():
                log.critical("stopping: the database is damaged; see the message before this one")
                status, self._stopping = 1, True
            self._tend(ended)
            if self._stopping and self._stopped(now_us):
                return status
            with contextlib.suppress(StoreUnavailable):  # soon
                self._count(self._children.reconcile(self._clock.mono_us()))
            try:
                run_duties()
            except StoreDamaged as error:
                log.critical("%s", error)
                status, self._stopping = 1, True
            self.tell()
            self._sleep()

    def _count(self, started: list[str]) -> None:
        """Who is started again and again shows in `/metrics`."""
        for name in started:
            self._store.measures.add(STARTS, (name,))
        if started:
            self._store.measures.hasten()
            with self._store.write():
                pass

    def tell(self) -> None:
        """A sign of life once a second, for systemd's watchdog, and how things stand."""
        now_us = self._clock.mono_us()
        if now_us < self._next_tell_us:
            return
        self._next_tell_us = now_us + TELL_US
        try:
            senders = len(self._store.senders.all())
            waiting = sum(depth.mails for depth in self._store.status.depths())
            status = f"{senders} of {self._senders} senders, {waiting} mails unfinished"
            self._ready = self._ready or senders >= self._senders
        except StoreUnavailable as error:
            status = str(error)
        self._tell(f"STATUS={status}\nWATCHDOG=1" + "\nREADY=1" * self._ready)

    def _stopped(self, now_us: int) -> bool:
        """Whether all children have ended, at the latest when their time is up."""
        if not self._stop_deadline_us:
            self._stop_deadline_us = now_us + int(STOP_WITHIN_S * 1e6)
            log.info("stopping: waiting for the senders to end what they have begun")
            self._children.terminate()
            self._tell("STOPPING=1\nSTATUS=waiting for the senders to end")
        if self._children.pids() and now_us > self._stop_deadline_us:
            log.warning("some processes did not end in time and are killed")
            self._children.kill()
            self._tend(self._children.reap(now_us))
        return not self._children.pids()

    def _tend(self, ended: list[Ended]) -> None:
        """Rescue the mail of senders that are gone, and end those that are stuck."""
        if not ended and self._clock.mono_us() < self._next_look_us:
            return
        self._next_look_us = self._clock.mono_us() + LOOK_US
        try:
            self._rescue()
            self._end_stuck()
        except StoreUnavailable as error:
            log.warning("%s", error)
            self._writable_since_us = self._clock.mono_us()
            self._end_stuck_holder()

    def _rescue(self) -> None:
        for sender in self._store.senders.all():
            if process_started(sender.pid) == sender.pid_started:
                continue
            begun_us = last_begun_us(self._store.path, sender.id, self._clock.mono_us())
            with self._store.write():
                uncertain, waiting = self._store.outcomes.rescue(
                    sender.id, begun_us=begun_us, now_ms=self._clock.wall_ms()
                )
                self._store.slots.give_back(sender.id, begun_us)
                self._store.senders.remove(sender.id)
            begun_path(self._store.path, sender.id).unlink(missing_ok=True)
            log.warning(
                "sender process %d is gone: %d mails uncertain, %d wait again",
                sender.pid,
                uncertain,
                waiting,
            )

    def _end_stuck(self) -> None:
        """Kill senders that did not renew their lease though they could have."""
        now_us = self._clock.mono_us()
        if now_us - self._writable_since_us < WRITABLE_FOR_US:
            return
        for sender in self._store.senders.all():
            if sender.lease_until_us < now_us:
                log.error("sender process %d is stuck and is killed", sender.pid)
                _kill(sender)

    def _end_stuck_holder(self) -> None:
        """Kill a sender that has held the write lock for as long as a lease."""
        holder = self._store.lock_holder()
        if holder != self._holder:
            self._holder, self._holder_since_us = holder, self._clock.mono_us()
        if self._clock.mono_us() - self._holder_since_us > LEASE_US:
            for sender in self._store.senders.all():
                if sender.pid == holder:
                    log.error("sender process %d is stuck in a commit and is killed", holder)
                    _kill(sender)

    def _sleep(self) -> None:
        select.select([self._woken], [], [], TICK_S)
        with contextlib.suppress(BlockingIOError):
            self._woken.recv(4096)


def _kill(sender: Sender) -> None:
    """SIGKILL this very process, not a later one that was given its pid."""
    with contextlib.suppress(ProcessLookupError):
        fd = os.pidfd_open(sender.pid)
        try:
            if process_started(sender.pid) == sender.pid_started:
                signal.pidfd_send_signal(fd, signal.SIGKILL)
        finally:
            os.close(fd)
