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


def main() -> None:
    """Run the command line; does not return."""
    try:
        manager, found = plugins.find()
        for refused in filter(None, (plugin.refused for plugin in found)):
            _warn(f"{refused}; what it does is missing")
        add_commands_of_plugins(manager, _warn)
        cli(obj=functools.cache(lambda: plugins.settings(manager, os.environ, Path(".env"))))
    except (MailerError, OSError) as error:
        click.echo(f"Error: {error}", err=True)
    except Exception as error:
        from mailer.reporting import unexpected

        unexpected(error, "a command")
    sys.exit(1)


def _warn(problem: str) -> None:
    click.echo(f"Warning: {problem}", err=True)


if __name__ == "__main__":
    main()
