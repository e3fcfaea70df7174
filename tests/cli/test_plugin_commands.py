"""Commands that plugins add: there like our own, and no plugin can take ours away."""

from __future__ import annotations

import pytest

from tests.installation import Installation

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
    """A plugin as an installer leaves it."""
    site = installation.directory / "site"
    about = site / f"{name}-1.dist-info"
    about.mkdir(parents=True)
    (site / f"{name}.py").write_text(source)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
    (about / "entry_points.txt").write_text(f"[mailer]\n{name} = {name}\n")
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
