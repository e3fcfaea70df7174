"""The two clocks mailer reads, passed as an argument wherever time matters.

Wall time (milliseconds since 1970, UTC) says when a mail is due. Pacing and leases use the
boot's monotonic clock, which no one can set: a step of the wall clock moves due times only.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Protocol


class Clock(Protocol):
    """Where time comes from; tests pass one they move by hand."""

    @property
    def boot_id(self) -> str:
        """Names the boot that `mono_us` counts from."""

    def wall_ms(self) -> int:
        """Milliseconds since 1970-01-01 UTC."""

    def mono_us(self) -> int:
        """Microseconds on the boot's monotonic clock, the same in every process."""


class SystemClock:
    """The machine's own clocks."""

    def __init__(self) -> None:
        self.boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def mono_us(self) -> int:
        return time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1_000
