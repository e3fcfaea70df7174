"""How often one caller may call: an even rate with a second's burst, for each of them alone.

Kept by one API process for the requests it serves, in memory. Callers are those who have shown a
token or key, so strangers can't fill it.
"""

from __future__ import annotations

from typing import Final

BURST_US: Final = 1_000_000
MOST: Final = 10_000
"""So many callers are remembered; those who have not called for long are forgotten first."""


class CallerRate:
    """GCRA (ITU-T I.371): for each caller the instant at which its calls so far would be due."""

    def __init__(self, per_second: float | None) -> None:
        self._each_us = 1e6 / per_second if per_second else 0.0
        self._due_us: dict[str, float] = {}

    def wait_s(self, caller: str, now_us: int) -> float:
        """0, and the call counts; or how long to wait before the next, and it doesn't."""
        if not self._each_us:
            return 0.0
        due_us = max(float(now_us), self._due_us.get(caller, 0.0))
        early_us = due_us + self._each_us - max(BURST_US, self._each_us) - now_us
        if early_us > 0:
            return early_us / 1e6
        if len(self._due_us) >= MOST:
            self._due_us = {name: due for name, due in self._due_us.items() if due > now_us}
        self._due_us[caller] = due_us + self._each_us
        return 0.0
