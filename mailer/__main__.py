"""The `mailer` command: hands the environment and `.env` to the commands, and words their errors.

Settings are read when a command asks for them, so that `mailer --help` works without any.
Exit status: 0 done, 1 it could not be done (one sentence on stderr says why), 2 wrong usage.
"""

from __future__ import annotations

import functools
import os
import sys
from logging import CRITICAL, WARNING
from pathlib import Path

import click

from mailer import plugins
from mailer.commands import add_commands_of_plugins, cli
from mailer.errors import MailerError
from mailer.journal import journal_of, priority


def main() -> None:
    """Run the command line; does not return."""
    try:
        manager, found = plugins.find()
        for refused in filter(None, (plugin.refused for plugin in found)):
            _warn(f"{refused}; what it does is missing")
        add_commands_of_plugins(manager, _warn)
        cli(obj=functools.cache(lambda: plugins.settings(manager, os.environ, Path(".env"))))
    except (MailerError, OSError) as error:
        _say("Error", error, CRITICAL)
    except Exception as error:
        from mailer.reporting import unexpected

        unexpected(error, "a command")
    sys.exit(1)


def _warn(problem: str) -> None:
    _say("Warning", problem, WARNING)


def _say(what: str, problem: object, level: int) -> None:
    """To whoever reads standard error; a journal is told how bad it is, line by line."""
    prefix = f"<{priority(level)}>" if journal_of(2) else ""
    for line in f"{what}: {problem}".splitlines():
        click.echo(prefix + line, err=True)


if __name__ == "__main__":
    main()
