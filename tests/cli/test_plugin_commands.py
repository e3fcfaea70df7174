"""Commands that plugins add: there like our own, and no plugin can take ours away."""

from __future__ import annotations

import pytest

from tests.installation import Installation, install_plugin

HELLO = """
import click
from mailer.hookspecs import hookimpl

@click.command()
@click.pass_obj
def hello(load):
    click.echo(f"hello from {load().senders} senders")

@hookimpl
def mailer_commands(cli):
    cli.add_command(hello, NAME)
"""
FAILING = """
from mailer.hookspecs import hookimpl

@hookimpl
def mailer_commands(cli):
    raise RuntimeError("no licence")
"""


def install(installation: Installation, name: str, source: str) -> None:
    site = installation.directory / "site"
    install_plugin(site, name, source)
    installation.environ["PYTHONPATH"] = str(site)


def test_a_plugin_s_command_gets_the_settings(installation: Installation) -> None:
    install(installation, "hello_plugin", HELLO.replace("NAME", "'hello'"))
    done = installation.mailer("hello", SENDERS="3")
    assert (done.returncode, done.stdout, done.stderr) == (0, "hello from 3 senders\n", "")
    assert "hello" in installation.mailer("--help").stdout


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import not_there", "plugin broken can't be loaded: No module named 'not_there'"),
        (FAILING, "plugin broken could not add its commands: no licence"),
        (HELLO.replace("NAME", "'config'"), "plugin broken may not replace the command config"),
    ],
    ids=["not loadable", "raises", "replaces ours"],
)
def test_a_broken_plugin_leaves_our_commands(
    installation: Installation, source: str, words: str
) -> None:
    install(installation, "broken", source)
    shown = installation.mailer("--help")
    assert shown.returncode == 0
    assert "supervise" in shown.stdout
    (line,) = shown.stderr.splitlines()
    assert line.startswith(f"Warning: {words}")
    assert "mailer config --json" in installation.mailer("config", "--help").stdout


def test_one_that_fails_leaves_the_other_plugins_commands(installation: Installation) -> None:
    install(installation, "broken", FAILING)
    assert "no licence" in installation.mailer("ses", "account", "--help").stderr
    assert installation.mailer("ses", "account", "--help").returncode == 0


def test_plugins_are_listed_with_package_version_and_hooks(installation: Installation) -> None:
    install(installation, "hello_plugin", HELLO.replace("NAME", "'hello'"))
    listed = {row["name"]: row for row in installation.json("plugins")}
    assert listed["hello_plugin"] == {
        "name": "hello_plugin",
        "package": "hello_plugin 1",
        "hooks": ["mailer_commands"],
        "refused": "",
    }
    assert listed["smtp"]["package"].startswith("mailer ")
    assert {"mailer_settings", "mailer_transports"} <= set(listed["smtp"]["hooks"])
    assert "hello_plugin 1" in installation.mailer("plugins").stdout


TELLING = """
from mailer.hookspecs import hookimpl

@hookimpl
def mailer_status(shelf):
    return [f"{len(shelf.read())} things are wrong"]
"""
UNABLE = TELLING.replace("return", "raise")


def test_status_says_what_plugins_tell_even_where_one_can_not(installation: Installation) -> None:
    install(installation, "telling", TELLING)
    install(installation, "unable", UNABLE)
    installation.mailer("migrate")
    notes = {note["plugin"]: note["note"] for note in installation.json("status")["notes"]}
    assert notes == {
        "telling": "0 things are wrong",
        "unable": "can't tell how it is: TypeError",
    }
    assert "plugin    telling: 0 things are wrong\n" in installation.mailer("status").stdout


MISSPELT = "from mailer.hookspecs import hookimpl\n@hookimpl\ndef mailer_transport(settings): ..."
GREEDY = """
from dataclasses import dataclass
from mailer.hookspecs import hookimpl
from mailer.variables import setting, text

@dataclass
class Greedy:
    everything: str = setting("SENDERS", default="", parse=text, accepted="", doc="")

@hookimpl
def mailer_settings():
    return Greedy
"""


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("mailer_hook_api = 2", "is made for version 2 of mailer's hooks, and this mailer has 1"),
        (MISSPELT, "has a hook mailer does not know"),
        (GREEDY, "declares SENDERS, which does not begin with BROKEN_"),
        ("raise SystemExit(4)", "can't be loaded"),
    ],
    ids=["another version", "misspelt", "settings", "exits"],
)
def test_a_refused_plugin_is_listed_with_the_reason_and_stops_what_would_start(
    installation: Installation, source: str, words: str
) -> None:
    install(installation, "broken", source)
    listed = {row["name"]: row for row in installation.json("plugins")}
    assert (listed["broken"]["package"], listed["broken"]["hooks"]) == ("broken 1", [])
    assert listed["broken"]["refused"].startswith(f"plugin broken {words}")
    assert installation.mailer("migrate").returncode == 0
    for command in (["run"], ["sender", "0"]):
        started = installation.mailer(*command)
        assert started.returncode == 1, command
        assert f"Error: plugin broken {words}" in started.stderr
        assert "Traceback" not in started.stderr


def test_a_plugin_made_for_this_version_is_loaded(installation: Installation) -> None:
    install(
        installation, "hello_plugin", "mailer_hook_api = 1\n" + HELLO.replace("NAME", "'hello'")
    )
    assert installation.mailer("hello").returncode == 0
