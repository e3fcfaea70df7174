"""Finding plugins, checking their hooks, and asking them for what they offer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from importlib.metadata import entry_points
from pathlib import Path
from types import MappingProxyType
from typing import Final

import pluggy

from mailer import hookspecs
from mailer.errors import PluginError, SettingFault, SettingsError
from mailer.hookspecs import Transport, Worker
from mailer.settings import Settings
from mailer.settings import load as load_settings
from mailer.variables import variables

ENTRY_POINT_GROUP: Final = "mailer"
_NONE: Final[Mapping[str, object]] = MappingProxyType({})


def load(extra: Mapping[str, object] = _NONE) -> pluggy.PluginManager:
    """All installed plugins, first-party ones included, and any passed, by name.

    Raises PluginError when one can't be imported or has a hook that mailer does not know.
    """
    manager = pluggy.PluginManager("mailer")
    manager.add_hookspecs(hookspecs)
    for name, plugin in (*_installed(), *extra.items()):
        if manager.get_plugin(name) is not None:
            continue  # the same distribution may be found twice along the path
        try:
            manager.register(plugin, name=name)
            manager.check_pending()
        except pluggy.PluginValidationError as error:
            raise PluginError(f"plugin {name} has a hook mailer does not know: {error}") from error
    return manager


def one_by_one(manager: pluggy.PluginManager, hook: str) -> Iterator[tuple[str, pluggy.HookCaller]]:
    """Each plugin's name and its hook alone, so that one that raises does no harm to the others."""
    found = [(i.plugin_name, i.plugin) for i in getattr(manager.hook, hook).get_hookimpls()]
    for name, plugin in found:
        others = [other for _, other in found if other is not plugin]
        yield name, manager.subset_hook_caller(hook, others)


def settings(
    manager: pluggy.PluginManager, environ: Mapping[str, str], dotenv_path: Path | None = None
) -> Settings:
    """All settings, mailer's own and the plugins'. Raises SettingsError naming every fault.

    Raises PluginError when a plugin declares what it may not.
    """
    kinds: list[type] = []
    owners = {name: "mailer" for v in variables(Settings).values() for name in v.names}
    declared = (
        (name, kind) for name, hook in one_by_one(manager, "mailer_settings") for kind in hook()
    )
    for plugin, kind in declared:
        if not (isinstance(kind, type) and is_dataclass(kind)):
            raise PluginError(f"plugin {plugin}: mailer_settings returns no class of settings")
        prefixes = getattr(kind, "prefixes", (f"{plugin.upper().replace('-', '_')}_",))
        for name in (name for v in variables(kind).values() for name in v.names):
            if not name.startswith(prefixes):
                beginning = " or ".join(prefixes)
                raise PluginError(f"plugin {plugin}: {name} does not begin with {beginning}")
            if owners.setdefault(name, plugin) != plugin:
                raise PluginError(f"plugin {plugin}: {name} is {owners[name]}'s")
        kinds.append(kind)
    return load_settings(environ, dotenv_path, of_plugins=kinds)


def transports(manager: pluggy.PluginManager, settings: Settings) -> dict[str, Transport]:
    """The transports these settings configure, the chosen one among them.

    Raises SettingsError when the chosen one is not there.
    """
    found: dict[str, Transport] = {}
    answers: list[Mapping[str, Transport]] = manager.hook.mailer_transports(settings=settings)
    for named in answers:
        for name, transport in named.items():
            if name in found:
                raise PluginError(f"two plugins offer a transport named {name}")
            found[name] = transport
    if settings.transport_name not in found:
        known = ", ".join(sorted(found)) or "none"
        problem = f"the transport {settings.transport_name} is not configured or not installed"
        raise SettingsError([SettingFault("TRANSPORT", problem, f"one of: {known}")])
    return found


def workers(manager: pluggy.PluginManager, settings: Settings) -> dict[str, tuple[str, Worker]]:
    """Each worker's name, with its plugin's name and what to run.

    Raises PluginError when two have the same name.
    """
    found: dict[str, tuple[str, Worker]] = {}
    for plugin, hook in one_by_one(manager, "mailer_workers"):
        for name, worker in ((n, w) for named in hook(settings=settings) for n, w in named.items()):
            if name in found:
                raise PluginError(f"plugins {found[name][0]} and {plugin} offer a worker {name}")
            found[name] = plugin, worker
    return found


def worker(manager: pluggy.PluginManager, settings: Settings, name: str) -> tuple[str, Worker]:
    """One of them. Raises PluginError when there is none of that name."""
    found = workers(manager, settings)
    if name not in found:
        raise PluginError(f"no plugin offers a worker {name}")
    return found[name]


def event_hooks(manager: pluggy.PluginManager) -> dict[str, pluggy.HookCaller]:
    """The plugins that want to be told of events, and what each is called by."""
    return dict(one_by_one(manager, "mailer_event"))


def _installed() -> Iterator[tuple[str, object]]:
    for entry_point in entry_points(group=ENTRY_POINT_GROUP):
        try:
            yield entry_point.name, entry_point.load()
        except Exception as error:
            raise PluginError(f"plugin {entry_point.name} can't be loaded: {error}") from error
