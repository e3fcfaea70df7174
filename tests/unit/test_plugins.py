"""Finding plugins: what is wrong with one stops the start, and is told with its name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest

from mailer import plugins
from mailer.errors import PluginError, SettingsError
from mailer.hookspecs import Transport, hookimpl
from mailer.settings import Settings
from tests.installation import install_plugin
from tests.unit.memory import Memory


class Offers:
    """A plugin with one transport."""

    def __init__(self, name: str) -> None:
        self.transport = Memory()
        self._name = name

    @hookimpl
    def mailer_transports(self, settings: Settings) -> Mapping[str, Transport]:
        return {self._name: self.transport}


class Misspelt:
    @hookimpl
    def mailer_transport(self, settings: Settings) -> Mapping[str, Transport]:
        return {}


class WrongArgument:
    @hookimpl
    def mailer_transports(self, configuration: Settings) -> Mapping[str, Transport]:
        return {}


def offered(extra: Mapping[str, object], **environ: str) -> dict[str, Transport]:
    manager = plugins.load(extra)
    return plugins.transports(manager, plugins.settings(manager, environ))


def test_the_first_party_plugins_are_found() -> None:
    manager = plugins.load()
    assert {"maildir", "smtp"} <= {name for name, _ in manager.list_name_plugin()}


def test_a_plugin_offers_a_transport_like_any_other() -> None:
    mine = Offers("pigeon")
    found = offered({"pigeon": mine}, TRANSPORT="pigeon")
    assert found["pigeon"] is mine.transport
    assert "maildir" in found


@pytest.mark.parametrize("plugin", [Misspelt(), WrongArgument()])
def test_a_hook_that_is_not_known_stops_the_start(plugin: object) -> None:
    with pytest.raises(PluginError, match="plugin pigeon has"):
        plugins.load({"pigeon": plugin})


def test_two_transports_of_one_name_stop_the_start() -> None:
    with pytest.raises(PluginError, match="pigeon"):
        offered({"a": Offers("pigeon"), "b": Offers("pigeon")})


def test_a_transport_that_is_missing_is_named_with_those_there_are() -> None:
    with pytest.raises(SettingsError) as caught:
        offered({"pigeon": Offers("pigeon")}, TRANSPORT="piegon")
    (fault,) = caught.value.faults
    assert fault.name == "TRANSPORT"
    assert "piegon" in fault.problem
    assert "maildir" in fault.accepted
    assert "pigeon" in fault.accepted


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import a_module_that_is_not_there", "a_module_that_is_not_there"),
        ("def broken(:", "invalid syntax"),
        ("raise RuntimeError('no licence')", "no licence"),
    ],
)
def test_a_plugin_that_can_not_be_imported_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, words: str
) -> None:
    name = f"plugin_{len(words)}_{len(source)}"
    install_plugin(tmp_path, name, source)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(PluginError, match=f"{name}.*{words}"):
        plugins.load()


def test_an_installed_plugin_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = "from mailer.hookspecs import hookimpl\n@hookimpl\ndef mailer_transports(settings):"
    install_plugin(tmp_path, "plugin_found", source + "\n    return {'found': settings.senders}\n")
    monkeypatch.syspath_prepend(tmp_path)
    found: Mapping[str, object] = offered({}, TRANSPORT="found", SENDERS="7")
    assert found["found"] == 7


def test_an_object_without_hooks_does_no_harm() -> None:
    assert "maildir" in offered({"nothing": object()})


def test_an_object_that_pluggy_can_not_keep_is_refused() -> None:
    with pytest.raises(PluginError, match="plugin namespace can't be used"):
        plugins.load({"namespace": SimpleNamespace()})
