"""A clock that stands still until it is told to move."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class HandClock:
    """`mailer.clock.Clock`, moved by hand."""

    boot_id: str = "boot"
    now_ms: int = 1_700_000_000_000
    now_us: int = 0

    def wall_ms(self) -> int:
        return self.now_ms

    def mono_us(self) -> int:
        return self.now_us

    def passes(self, ms: int) -> None:
        self.now_ms += ms
        self.now_us += ms * 1000
