"""Finding plugins, checking their hooks, and asking them for what they offer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, is_dataclass
from importlib.metadata import entry_points
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import pluggy

from mailer import hookspecs
from mailer.errors import MailerError, PluginError, SettingFault, SettingsError
from mailer.hookspecs import HOOK_API, Shelf, Transport, Worker
from mailer.routing import NAME
from mailer.settings import Settings
from mailer.settings import load as load_settings
from mailer.variables import variables

ENTRY_POINT_GROUP: Final = "mailer"
_NONE: Final[Mapping[str, object]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Found:
    """One plugin that is installed."""

    name: str
    package: str
    """The distribution it came with, and its version; empty when it was passed by hand."""
    hooks: tuple[str, ...] = ()
    refused: str = ""
    """Why it can't be used: a sentence that names it. Empty: it is loaded."""


def load(extra: Mapping[str, object] = _NONE) -> pluggy.PluginManager:
    """All installed plugins, first-party ones included, and any passed, by name.

    Raises PluginError when one can't be used: for what starts, since whatever that plugin was to
    do would not be done.
    """
    manager, found = find(extra)
    if refused := [plugin.refused for plugin in found if plugin.refused]:
        raise PluginError("\n".join(refused))
    return manager


def find(extra: Mapping[str, object] = _NONE) -> tuple[pluggy.PluginManager, list[Found]]:
    """Those that can be used, and what there is to say of each, refused ones included."""
    manager = _manager()
    found: list[Found] = []
    owners = {name: "mailer" for v in variables(Settings).values() for name in v.names}
    for name, package, get in (*_installed(), *((n, "", lambda p=p: p) for n, p in extra.items())):
        if any(plugin.name == name for plugin in found):
            continue  # the same distribution may be found twice along the path
        try:
            plugin = _checked(name, get, owners)
        except PluginError as error:
            found.append(Found(name, package, refused=f"plugin {name} {error}"))
            continue
        manager.register(plugin, name=name)
        hooks = (hook.name for hook in manager.get_hookcallers(plugin) or ())
        found.append(Found(name, package, tuple(sorted(hooks))))
    return manager, found


def one_by_one(manager: pluggy.PluginManager, hook: str) -> Iterator[tuple[str, pluggy.HookCaller]]:
    """Each plugin's name and its hook alone, so that one that raises does no harm to the others."""
    found = [(i.plugin_name, i.plugin) for i in getattr(manager.hook, hook).get_hookimpls()]
    for name, plugin in found:
        others = [other for _, other in found if other is not plugin]
        yield name, manager.subset_hook_caller(hook, others)


def ask(manager: pluggy.PluginManager, hook: str, **given: object) -> Iterator[tuple[str, Any]]:
    """Each plugin's name and what its hook answers. Raises PluginError when one raises."""
    for name, caller in one_by_one(manager, hook):
        try:
            answers = caller(**given)
        except MailerError:
            raise
        except Exception as error:
            problem = f"{type(error).__name__}: {error}"
            raise PluginError(f"plugin {name}: {hook} raised {problem}") from error
        yield from ((name, answer) for answer in answers)


def troubles(
    manager: pluggy.PluginManager, shelf: Callable[[str], Shelf]
) -> Iterator[tuple[str, list[str]]]:
    """What each plugin says is not as it should be; one that can't tell harms no other."""
    for plugin, hook in one_by_one(manager, "mailer_status"):
        try:
            said = [str(sentence) for several in hook(shelf=shelf(plugin)) for sentence in several]
        except Exception as error:
            said = [f"can't tell how it is: {type(error).__name__}"]
        yield plugin, said


def settings(
    manager: pluggy.PluginManager, environ: Mapping[str, str], dotenv_path: Path | None = None
) -> Settings:
    """All settings, mailer's own and the plugins'. Raises SettingsError naming every fault."""
    kinds = [kind for _, kind in ask(manager, "mailer_settings")]
    return load_settings(environ, dotenv_path, of_plugins=kinds)


def transports(manager: pluggy.PluginManager, settings: Settings) -> dict[str, Transport]:
    """The transports these settings configure, those they choose among them.

    Raises SettingsError naming every chosen one that is not there.
    """
    found: dict[str, Transport] = {}
    owners: dict[str, str] = {}
    for plugin, named in ask(manager, "mailer_transports", settings=settings):
        for name, transport in named.items():
            if owners.setdefault(name, plugin) != plugin:
                raise PluginError(f"plugins {owners[name]} and {plugin} offer a transport {name}")
            if not NAME.fullmatch(name):
                raise PluginError(
                    f"plugin {plugin} offers a transport {name!r}: a name has letters, digits,"
                    " `-`, `_` and `.` only"
                )
            found[name] = transport
    if missing := sorted(settings.ways.names - found.keys()):
        known = ", ".join(sorted(found)) or "none"
        raise SettingsError(
            [
                SettingFault(
                    "TRANSPORT" if name in settings.ways.default else "ROUTES",
                    f"the transport {name} is not configured or not installed",
                    f"one of: {known}",
                )
                for name in missing
            ]
        )
    if faults := list(_limits_of_none(settings, found)):
        raise SettingsError(faults)
    return found


def _limits_of_none(settings: Settings, found: Mapping[str, Transport]) -> Iterator[SettingFault]:
    """Entries of LIMITS for transports that are not there."""
    for way in settings.limits.ways:
        name = way.partition("@")[0]
        if name not in found:
            problem = f"`{way}`: the transport {name} is not configured or not installed"
            yield SettingFault("LIMITS", problem, f"limits of: {', '.join(sorted(found))}")


def workers(manager: pluggy.PluginManager, settings: Settings) -> dict[str, tuple[str, Worker]]:
    """Each worker's name, with its plugin's name and what to run.

    Raises PluginError when two have the same name.
    """
    found: dict[str, tuple[str, Worker]] = {}
    for plugin, named in ask(manager, "mailer_workers", settings=settings):
        for name, worker in named.items():
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


def idle_hooks(manager: pluggy.PluginManager) -> dict[str, pluggy.HookCaller]:
    """The plugins that say when they have nothing to do, and how each is asked."""
    return dict(one_by_one(manager, "mailer_idle"))


def _manager() -> pluggy.PluginManager:
    manager = pluggy.PluginManager("mailer")
    manager.add_hookspecs(hookspecs)
    return manager


def _installed() -> Iterator[tuple[str, str, Callable[[], object]]]:
    """Name, package and how to import it."""
    for entry_point in entry_points(group=ENTRY_POINT_GROUP):
        package = entry_point.dist
        yield (
            entry_point.name,
            f"{package.name} {package.version}" if package else "",
            entry_point.load,
        )


def _checked(name: str, get: Callable[[], object], owners: dict[str, str]) -> object:
    """The plugin. Raises PluginError, worded to follow its name."""
    try:
        plugin = get()
    except (Exception, SystemExit) as error:
        raise PluginError(f"can't be loaded: {error}") from error
    if type(plugin).__hash__ is None:
        raise PluginError("can't be used: an object that is a plugin has to be hashable")
    made_for = getattr(plugin, "mailer_hook_api", 1)
    if made_for != HOOK_API:
        raise PluginError(
            f"is made for version {made_for} of mailer's hooks, and this mailer has {HOOK_API}:"
            " install a release of the plugin that is made for it"
        )
    alone = _manager()
    try:
        alone.register(plugin, name=name)
        alone.check_pending()
    except pluggy.PluginValidationError as error:
        raise PluginError(f"has a hook mailer does not know: {error}") from error
    try:
        kinds = alone.hook.mailer_settings()
    except Exception as error:
        raise PluginError(f"can't declare its settings: {error}") from error
    for kind in kinds:
        _check_settings(name, kind, owners)
    return plugin


def _check_settings(plugin: str, kind: object, owners: dict[str, str]) -> None:
    if not (isinstance(kind, type) and is_dataclass(kind)):
        raise PluginError("returns no class of settings from mailer_settings")
    prefixes = getattr(kind, "prefixes", (f"{plugin.upper().replace('-', '_')}_",))
    for name in (name for variable in variables(kind).values() for name in variable.names):
        if not name.startswith(prefixes):
            raise PluginError(f"declares {name}, which does not begin with {' or '.join(prefixes)}")
        if owners.setdefault(name, plugin) != plugin:
            raise PluginError(f"declares {name}, which is {owners[name]}'s")
