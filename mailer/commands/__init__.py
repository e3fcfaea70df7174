"""The command line: one file for each family of commands, put together here.

Each command gets, as click's object, the function that reads and checks the settings.
"""

from __future__ import annotations

import click

from mailer import __version__
from mailer.commands.database import migrate
from mailer.commands.looking import config, show
from mailer.commands.processes import run, sender, serve, supervise
from mailer.commands.sending import send, token
from mailer.commands.status import status


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="mailer")
def cli() -> None:
    """Accept mail over REST, pace it, send it, and know what became of it.

    Settings come from the environment and from .env in the working directory; `mailer config`
    shows them and where each came from.
    """


for _command in (run, serve, supervise, sender, migrate, token, send, status, show, config):
    cli.add_command(_command)
