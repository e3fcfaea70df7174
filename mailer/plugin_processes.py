"""The processes that plugins want: workers, and a notifier for each that takes events.

A plugin with nothing to do has none. It is asked now and then whether that is so; what ends its
rest is a commit, see `store.idle`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pluggy

from mailer import plugins
from mailer.errors import StoreError
from mailer.reporting import unexpected
from mailer.settings import Settings
from mailer.store import Store

Commands = Mapping[str, Sequence[str]]
"""Of child processes, by their names."""


class PluginProcesses:
    """Made by the supervisor, which alone puts plugins to rest."""

    def __init__(self, store: Store, manager: pluggy.PluginManager, settings: Settings) -> None:
        """Raises PluginError when workers can't be named."""
        self._store = store
        self._settings = settings
        self._idle_hooks = plugins.idle_hooks(manager)
        self._of_plugin: dict[str, dict[str, Sequence[str]]] = {}
        for name, (plugin, _) in plugins.workers(manager, settings).items():
            self._of_plugin.setdefault(plugin, {})[f"worker {name}"] = ("worker", name)
        for plugin in plugins.event_hooks(manager):
            self._of_plugin.setdefault(plugin, {})[f"notifier {plugin}"] = ("notifier", plugin)

    def wanted(self) -> Commands:
        """Those of all plugins that are not idle. Raises StoreUnavailable."""
        idle = self._store.idle.all()
        return {
            name: command
            for plugin, commands in self._of_plugin.items()
            if plugin not in idle
            for name, command in commands.items()
        }

    def ask(self) -> None:
        """Put those to rest that have nothing to do; wake those that have after all.

        After a start: the settings may be others.
        """
        resting = self._store.idle.all()
        for plugin in resting | set(self._idle_hooks):
            if self._is_idle(plugin) == (plugin in resting):
                continue
            with self._store.write():  # in which nobody gives it something to do
                if self._is_idle(plugin):
                    self._store.idle.rest(plugin)
                else:
                    self._store.idle.wake(plugin)

    def _is_idle(self, plugin: str) -> bool:
        if plugin not in self._idle_hooks:
            return False
        try:
            shelf = self._store.shelf(plugin)
            return any(self._idle_hooks[plugin](settings=self._settings, shelf=shelf))
        except StoreError:
            raise
        except Exception as error:
            unexpected(error, f"plugin {plugin}, asked whether it is idle")
            del self._idle_hooks[plugin]  # not again each second
            return False
