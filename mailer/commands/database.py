"""Commands about the database file."""

from __future__ import annotations

import json
from collections.abc import Callable

import click

from mailer.records import require_database
from mailer.settings import Settings
from mailer.store import Store
from mailer.store.migrate import migrate as migrate_database
from mailer.store.outcomes import rules_of


@click.command(
    epilog="\b\nExample:\n  DATABASE_URL=sqlite:////var/lib/mailer/mailer.db mailer migrate"
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--online", is_flag=True, help="Refuse what the running version could not work on.")
@click.pass_obj
def migrate(load: Callable[[], Settings], /, as_json: bool, online: bool) -> None:
    """Create the database, or bring its schema up to date.

    Safe to repeat. Do it before anything else starts, and after each upgrade.
    """
    database = load().database_path.absolute()
    applied = migrate_database(database, online=online)
    if as_json:
        click.echo(json.dumps({"database": str(database), "applied": applied}))
    elif applied:
        click.echo(f"{database}: applied {', '.join(applied)}")
    else:
        click.echo(f"{database}: up to date")


def open_store(settings: Settings) -> Store:
    """The database, for a command that looks at it. Raises StoreError."""
    require_database(settings)
    return Store(settings.database_path, rules_of(settings))
