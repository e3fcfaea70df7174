"""A worker: a plugin's long-running job in a process of its own, with access to what is its own.

The supervisor starts it, and starts it anew when it ends. Nothing it does can hold up sending but
its transactions, which it is told to keep short.
"""

from __future__ import annotations

from typing import Final

from mailer import plugins
from mailer.asleep import Sleep
from mailer.clock import Clock, SystemClock
from mailer.records import OwnRecords
from mailer.settings import Settings
from mailer.store import Store
from mailer.store.outcomes import rules_of

LOOK_EVERY_S: Final = 0.2


def main(settings: Settings, name: str) -> None:
    """Run the worker of that name until it returns.

    Raises PluginError when there is none, and whatever the worker raises.
    """
    plugin, worker = plugins.worker(plugins.load(), settings, name)
    sleep = Sleep()
    store = Store(settings.database_path, rules_of(settings))
    try:
        worker(OwnAccess(store, plugin, SystemClock(), sleep))
    finally:
        sleep.close()
        store.close()


class OwnAccess(OwnRecords):
    """`hookspecs.Access` for one plugin."""

    def __init__(self, store: Store, plugin: str, clock: Clock, sleep: Sleep) -> None:
        super().__init__(store, plugin, clock)
        self._sleep = sleep
        self._seen = store.version()

    @property
    def stopping(self) -> bool:
        return self._sleep.stopping

    def wait(self, timeout_s: float) -> None:
        deadline_us = self._clock.mono_us() + int(timeout_s * 1e6)
        while not self.stopping:
            version = self._store.version()
            if version != self._seen:
                self._seen = version
                return
            left_s = (deadline_us - self._clock.mono_us()) / 1e6
            if left_s <= 0 or self._sleep.until(min(left_s, LOOK_EVERY_S)):
                return

    def wake(self) -> None:
        self._sleep.poke()
