"""Finding plugins, checking their hooks, and asking them for what they offer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import entry_points

import pluggy

from mailer import hookspecs
from mailer.errors import PluginError, SettingFault, SettingsError
from mailer.hookspecs import Transport, Worker
from mailer.settings import Settings

ENTRY_POINT_GROUP = "mailer"


def load(extra: Iterable[object] = ()) -> pluggy.PluginManager:
    """All installed plugins, first-party ones included, and any passed.

    Raises PluginError when one can't be imported or has a hook that mailer does not know.
    """
    manager = pluggy.PluginManager("mailer")
    manager.add_hookspecs(hookspecs)
    for entry_point in entry_points(group=ENTRY_POINT_GROUP):
        if manager.get_plugin(entry_point.name) is not None:
            continue  # the same distribution may be found twice along the path
        try:
            manager.register(entry_point.load(), name=entry_point.name)
        except Exception as error:
            raise PluginError(f"plugin {entry_point.name} can't be loaded: {error}") from error
    try:
        for plugin in extra:
            manager.register(plugin, name=f"{type(plugin).__name__} {id(plugin)}")
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        name = manager.get_name(error.plugin)
        raise PluginError(f"plugin {name} has a hook mailer does not know: {error}") from error
    return manager


def one_by_one(manager: pluggy.PluginManager, hook: str) -> Iterator[tuple[str, pluggy.HookCaller]]:
    """Each plugin's name and its hook alone, so that one that raises does no harm to the others."""
    found = manager.list_name_plugin()
    for name, plugin in found:
        others = [other for _, other in found if other is not plugin]
        yield name, manager.subset_hook_caller(hook, others)


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
