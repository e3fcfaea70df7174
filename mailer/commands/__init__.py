"""The command line: one file for each family of commands, put together here with the plugins'.

Each command gets, as click's object, the function that reads and checks the settings.
"""

from __future__ import annotations

from collections.abc import Callable

import click
from pluggy import PluginManager

from mailer import __version__, plugins
from mailer.commands.backup import backup, release, restore
from mailer.commands.database import migrate
from mailer.commands.doctor import doctor
from mailer.commands.events import events
from mailer.commands.looking import config, hash_, installed, show
from mailer.commands.processes import notifier, run, sender, serve, supervise, worker
from mailer.commands.sending import send, token
from mailer.commands.status import status
from mailer.commands.suppressions import suppressions
from mailer.commands.systemd import systemd


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="mailer")
def cli() -> None:
    """Accept mail over REST, pace it, send it, and know what became of it.

    Settings come from the environment and from .env in the working directory; `mailer config`
    shows them and where each came from.
    """


_processes = (run, serve, supervise, sender, notifier, worker)
_database = (migrate, backup, restore, release)
_mail = (token, send, status, show, events, suppressions, hash_)
for _command in (*_processes, *_database, *_mail, doctor, config, installed, systemd):
    cli.add_command(_command)


def add_commands_of_plugins(manager: PluginManager, say: Callable[[str], None]) -> None:
    """Let each plugin add its own. What is wrong with one is said, and the others' are there."""
    for name, hook in plugins.one_by_one(manager, "mailer_commands"):
        before = dict(cli.commands)
        try:
            hook(cli=cli)
        except Exception as error:
            say(f"plugin {name} could not add its commands: {error}")
        taken = [known for known, command in before.items() if cli.commands[known] is not command]
        if taken:
            say(f"plugin {name} may not replace the command {', '.join(taken)}")
            cli.commands.update(before)
