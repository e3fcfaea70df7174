"""The settings that plugins declare: read, checked and told as mailer's own are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import pytest

from mailer import plugins
from mailer.errors import PluginError, SettingsError
from mailer.hookspecs import hookimpl
from mailer.settings import Settings
from mailer.variables import duration_s, setting, several, switch, text, whole_number

SECRET = "hunter2"


@dataclass(frozen=True, slots=True)
class PigeonSettings:
    loft: str | None = setting(
        "PIGEON_LOFT", default=None, parse=text, accepted="a place", doc="Where they live."
    )
    flock: int = setting(
        "PIGEON_FLOCK", default=3, parse=whole_number(1, 9), accepted="1 to 9", doc="How many."
    )
    ring: int | None = setting(
        "PIGEON_RING", default=None, parse=int, accepted="a number", doc="Theirs.", secret=True
    )


class Declares:
    """A plugin that has these settings."""

    def __init__(self, kind: Any) -> None:
        self._kind = kind

    @hookimpl
    def mailer_settings(self) -> Any:
        return self._kind


def loaded(environ: dict[str, str], **declared: Any) -> Settings:
    manager = plugins.load({name: Declares(kind) for name, kind in declared.items()})
    return plugins.settings(manager, environ)


def test_they_are_read_with_ours_and_come_typed() -> None:
    settings = loaded({"PIGEON_LOFT": "roof", "SENDERS": "4"}, pigeon=PigeonSettings)
    assert settings.of(PigeonSettings) == PigeonSettings(loft="roof", flock=3)
    assert settings.senders == 4
    assert settings.chosen_because["PIGEON_LOFT"] == "PIGEON_LOFT in environment"
    listed = {variable.name: value for variable, value in settings.listed()}
    assert (listed["PIGEON_LOFT"], listed["PIGEON_FLOCK"], listed["SENDERS"]) == ("roof", 3, 4)


def test_their_faults_are_told_with_ours_at_once() -> None:
    environ = {"PIGEON_FLOCK": "many", "SENDERS": "many", "SMTP_URL": "many"}
    with pytest.raises(SettingsError) as caught:
        loaded(environ, pigeon=PigeonSettings)
    assert {fault.name for fault in caught.value.faults} == set(environ)


def test_what_is_wrong_with_a_secret_is_told_without_it_whatever_the_parser_says() -> None:
    with pytest.raises(SettingsError, match=r"PIGEON_RING.*a number") as caught:
        loaded({"PIGEON_RING": SECRET}, pigeon=PigeonSettings)
    assert SECRET not in str(caught.value)


def named(*names: str, prefixes: tuple[str, ...] | None = None) -> type:
    """Settings with variables of these names."""

    @dataclass(frozen=True)
    class Kind:
        one: str = setting(*names, default="", parse=text, accepted="", doc="")

    if prefixes is not None:
        Kind.prefixes = prefixes  # type: ignore[attr-defined]
    return Kind


def test_a_plugin_may_say_that_its_names_begin_otherwise() -> None:
    @dataclass(frozen=True, slots=True)
    class Kind:
        prefixes: ClassVar = ("DOVE_",)
        one: str = setting("DOVE_ONE", default="", parse=text, accepted="", doc="")

    assert loaded({"DOVE_ONE": "1"}, pigeon=Kind).of(Kind).one == "1"


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (named("LOFT"), "declares LOFT, which does not begin with BIRD_TABLE_"),
        (named("BIRD_TABLE_ONE", "BIRD"), "declares BIRD, which does not begin with BIRD_TABLE_"),
        (named("SENDERS", prefixes=("SEND",)), "declares SENDERS, which is mailer's"),
        (named("SMTP_URL", prefixes=("SMTP_",)), "declares SMTP_URL, which is smtp's"),
        ({"BIRD_TABLE_ONE": 1}, "returns no class of settings"),
        (int, "returns no class of settings"),
    ],
)
def test_a_declaration_that_is_wrong_stops_the_start_with_the_plugin_s_name(
    kind: object, words: str
) -> None:
    with pytest.raises(PluginError, match=f"plugin bird-table {words}"):
        loaded({}, **{"bird-table": kind})


def test_settings_that_the_plugin_forgot_to_declare_are_no_silent_defaults() -> None:
    with pytest.raises(PluginError, match=r"PigeonSettings is not loaded.*mailer_settings"):
        loaded({"PIGEON_LOFT": "roof"}).of(PigeonSettings)


@pytest.mark.parametrize(
    "value",
    [
        "smtp://me:hunter2@host:port",
        "smtp://me:hunter2@host:99999",
        "smtp://me:hunter2@[host",
        "smtp://[hunter2]",
        "smtp://me:hunter2/@host",
        "hunter2",
    ],
)
def test_a_wrong_smtp_url_is_told_without_its_password(value: str) -> None:
    with pytest.raises(SettingsError, match="SMTP_URL") as caught:
        loaded({"SMTP_URL": value, "SENDERS": "none"})
    error: BaseException | None = caught.value
    while error is not None:
        assert SECRET not in f"{error} {error!r} {error.args}"
        error = error.__cause__ or error.__context__


def test_what_could_be_a_secret_is_marked_as_one() -> None:
    assert {variable.name for variable, _ in loaded({}).listed() if variable.secret} == {
        "JWT_SECRET",
        "API_KEY",
        "SMTP_URL",
        "SENTRY_DSN",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
    }


def test_every_variable_is_documented_and_named_once() -> None:
    names = [name for variable, _ in loaded({}).listed() for name in variable.names]
    assert len(names) == len(set(names))
    assert all(variable.doc and variable.accepted for variable, _ in loaded({}).listed())


def test_the_forms_that_plugins_share() -> None:
    assert several(whole_number(1, 9))("1, 2,,3 ") == (1, 2, 3)
    assert several(text)("") == ()
    assert duration_s("2h") == 7200
    assert switch("no") is False
