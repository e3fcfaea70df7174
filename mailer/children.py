"""Child processes: those wanted against those living, and the difference made good.

Children are fresh commands, never forks. Each gets a pipe as standard input that ends when the
supervisor does, however it ends.
"""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

log = logging.getLogger("mailer.supervisor")

HEALTHY_US: Final = 10_000_000
"""A child that lived so long is replaced at once when it ends."""
FIRST_WAIT_US: Final = 100_000
LONGEST_WAIT_US: Final = 10_000_000
KILLED_WAIT_US: Final = 500_000
"""A signal is no fault of the child's own: however often, it is replaced within a second."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A child that has ended; `status` as `subprocess` gives it, negative for a signal."""

    name: str
    pid: int
    status: int


@dataclass(slots=True)
class _Child:
    process: subprocess.Popen[bytes]
    started_us: int
    asked_to_end: bool = False


@dataclass(slots=True)
class Children:
    """`wanted` says which there should be now: each child's name and its command."""

    wanted: Callable[[], Mapping[str, Sequence[str]]]
    _living: dict[str, _Child] = field(default_factory=dict)
    _short_lives: dict[str, int] = field(default_factory=dict)
    _start_at_us: dict[str, int] = field(default_factory=dict)

    def reap(self, now_us: int) -> list[Ended]:
        """Children that have ended since the last call."""
        ended = []
        for name, child in list(self._living.items()):
            status = child.process.poll()
            if status is None:
                continue
            del self._living[name]
            ended.append(Ended(name, child.process.pid, status))
            short = now_us - child.started_us < HEALTHY_US
            lives = self._short_lives.get(name, 0) + 1 if short else 0
            self._short_lives[name] = lives
            longest_us = LONGEST_WAIT_US if status >= 0 else KILLED_WAIT_US
            wait_us = min(longest_us, FIRST_WAIT_US * 2 ** min(lives - 1, 10)) if lives else 0
            self._start_at_us[name] = now_us + wait_us
            level = logging.WARNING if status else logging.INFO
            log.log(level, "%s (pid %d) ended with status %d", name, child.process.pid, status)
        return ended

    def reconcile(self, now_us: int) -> list[str]:
        """Start what is wanted and does not live; ask to end what lives and is not wanted.

        The names of those started.
        """
        wanted = self.wanted()
        self._end_all_but(wanted)
        started = []
        for name, command in wanted.items():
            if name in self._living or now_us < self._start_at_us.get(name, 0):
                continue
            process = subprocess.Popen(
                [sys.executable, "-m", "mailer", *command], stdin=subprocess.PIPE
            )
            self._living[name] = _Child(process, now_us)
            log.info("started %s (pid %d)", name, process.pid)
            started.append(name)
        return started

    def pids(self) -> dict[int, str]:
        """The living, by pid."""
        return {child.process.pid: name for name, child in self._living.items()}

    def terminate(self) -> None:
        """Ask all to end, and want none any more."""
        self.wanted = dict
        self._end_all_but(())

    def _end_all_but(self, wanted: Container[str]) -> None:
        for name, child in self._living.items():
            if name not in wanted and not child.asked_to_end:
                child.process.send_signal(signal.SIGTERM)
                child.asked_to_end = True

    def kill(self) -> None:
        for child in self._living.values():
            child.process.kill()
            child.process.wait()
