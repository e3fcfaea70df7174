"""The `mailer` command: hands the environment and `.env` to the commands, and words their errors.

Settings are read when a command asks for them, so that `mailer --help` works without any.
Exit status: 0 done, 1 it could not be done (one sentence on stderr says why), 2 wrong usage.
"""

from __future__ import annotations

import functools
import os
import sys
from pathlib import Path

import click

from mailer import plugins
from mailer.commands import add_commands_of_plugins, cli
from mailer.errors import MailerError
from mailer.settings import Settings


def main() -> None:
    """Run the command line; does not return."""
    try:
        add_commands_of_plugins(say=lambda problem: click.echo(f"Warning: {problem}", err=True))
        cli(obj=functools.cache(_settings))
    except (MailerError, OSError) as error:
        click.echo(f"Error: {error}", err=True)
    except Exception as error:
        from mailer.reporting import unexpected

        unexpected(error, "a command")
    sys.exit(1)


def _settings() -> Settings:
    return plugins.settings(plugins.load(), os.environ, Path(".env"))


if __name__ == "__main__":
    main()
