"""A wall clock that was set is not believed where that would make something irreversible."""

from __future__ import annotations

from mailer.duties import DAY_MS, SteadyWallClock
from mailer.testing import HandClock


def test_nothing_is_removed_as_old_by_a_clock_that_was_set() -> None:
    clock = HandClock()
    ran: list[int] = []
    steady = SteadyWallClock(clock)

    def pruned() -> bool:
        before = len(ran)
        steady.unless_set(lambda: ran.append(1))
        return len(ran) > before

    clock.passes(40 * DAY_MS)
    assert pruned()
    clock.now_ms += 80 * 365 * DAY_MS
    assert not pruned()
    clock.passes(3600 * 1000)
    assert not pruned()
    clock.now_ms -= 80 * 365 * DAY_MS
    assert pruned()
    clock.now_ms -= 2 * DAY_MS
    assert not pruned()
    clock.passes(DAY_MS + 1)
    pruned()
    assert pruned()
