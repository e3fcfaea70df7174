"""Back-ups: taking one while mailer works, putting one back, and letting mail go after that."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click

from mailer.api import times
from mailer.clock import SystemClock
from mailer.commands.database import open_store
from mailer.commands.tables import console, table
from mailer.errors import StoreUnavailable
from mailer.records import require_database
from mailer.settings import Settings
from mailer.store.backup import back_up, note_back_up
from mailer.store.backup import restore as restore_database
from mailer.store.hold import Doubtful, Held

NAMED_BY_TIME: Final = re.compile(r"mailer-\d{8}T\d{6}Z\.db")
TOPICS_SHOWN: Final = 50


@click.command(
    epilog="\b\nExamples:\n  mailer backup /var/backups/mailer.db\n"
    "  mailer backup /var/backups/mailer/ --keep 14"
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--keep", type=click.IntRange(min=1), help="In a directory: keep the newest so many.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_obj
def backup(load: Callable[[], Settings], /, file: Path, keep: int | None, as_json: bool) -> None:
    """Copy the database to FILE, whole and checked, while mail is accepted and sent.

    When FILE is a directory, a file named by the time is made in it.
    """
    settings = load()
    require_database(settings)
    if keep and not file.is_dir():
        raise click.UsageError(f"--keep needs a directory, and {file} is none")
    now_ms = SystemClock().wall_ms()
    target = file
    if file.is_dir():
        target = file / f"mailer-{datetime.fromtimestamp(now_ms / 1000, UTC):%Y%m%dT%H%M%SZ}.db"
    made = back_up(settings.database_path, target, now_ms)
    try:
        note_back_up(settings.database_path, now_ms)
    except StoreUnavailable as error:
        click.echo(f"/metrics can't tell of this back-up: {error}", err=True)
    removed = _remove_old(file, keep) if keep else []
    if as_json:
        shown = {"file": str(made.path), "bytes": made.size_bytes, "rows": made.rows}
        click.echo(json.dumps({**shown, "removed": [str(path) for path in removed]}))
    else:
        mails = made.rows["mails"]
        click.echo(f"{made.path}: {mails:,} mails, {made.size_bytes:,} bytes, checked")
        for path in removed:
            click.echo(f"removed {path}")


def _remove_old(directory: Path, keep: int) -> list[Path]:
    made = sorted(path for path in directory.iterdir() if NAMED_BY_TIME.fullmatch(path.name))
    for path in made[:-keep]:
        path.unlink()
    return made[:-keep]


@click.command(
    epilog="\b\nExample:\n  mailer restore /var/backups/mailer/mailer-20260801T030000Z.db"
)
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_obj
def restore(load: Callable[[], Settings], /, file: Path, as_json: bool) -> None:
    """Put the back-up FILE in the database's place, held: nothing is sent until `mailer release`.

    Stop mailer first. The database that was there is kept beside it, under another name.
    """
    database = load().database_path
    replaced = restore_database(file, database, SystemClock().wall_ms())
    if as_json:
        shown = {"database": str(database), "replaced": str(replaced) if replaced else None}
        click.echo(json.dumps(shown))
        return
    click.echo(f"{database} is now what {file} holds.")
    if replaced:
        click.echo(f"What was there is {replaced}; remove it when you are sure.")
    click.echo(
        "It is held: start mailer, so that it hears what providers tell of mail sent since the"
        " back-up, then run `mailer release`."
    )


@click.command(epilog="\b\nExamples:\n  mailer release\n  mailer release --yes")
@click.option("--yes", is_flag=True, help="Don't ask.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object; asks nothing.")
@click.pass_context
def release(context: click.Context, /, yes: bool, as_json: bool) -> None:
    """Show what a restored database would send, and let it go.

    Mail that was due before now may have been sent after the back-up was taken. Cancel what you
    don't want again: `curl -X DELETE …/v1/topics/TOPIC` works while it is held.
    """
    store = open_store(context.obj())
    try:
        held = store.hold.get()
        doubtful = store.hold.doubtful(SystemClock().wall_ms()) if held else []
        if as_json:
            click.echo(json.dumps(_told(held, doubtful, released=bool(held and yes))))
        elif held is None:
            click.echo("Nothing is held.")
        else:
            _show(held, doubtful)
        if held is None:
            return
        if not yes and not as_json and sys.stdin.isatty():
            yes = click.confirm("Let it go?")
        if not yes:
            if not as_json:
                click.echo("Still held; `mailer release --yes` lets it go.")
            context.exit(1)
        with store.write():
            store.hold.release()
        if not as_json:
            click.echo("Released.")
    finally:
        store.close()


def _told(held: Held | None, doubtful: list[Doubtful], *, released: bool) -> dict[str, Any]:
    return {
        "held_since": times.written(held.since_ms) if held else None,
        "backed_up_at": times.written_or_none(held.backed_up_at_ms) if held else None,
        "events_since": held.told if held else 0,
        "released": released,
        "doubtful": [
            {
                "topic_id": of_topic.topic_id,
                "mails": of_topic.mails,
                "first_due_at": times.written(of_topic.first_due_at_ms),
                "last_due_at": times.written(of_topic.last_due_at_ms),
            }
            for of_topic in doubtful
        ],
    }


def _show(held: Held, doubtful: list[Doubtful]) -> None:
    of = times.written_or_none(held.backed_up_at_ms) or "an unknown time"
    click.echo(f"Held since {times.written(held.since_ms)}; the back-up is of {of}.")
    click.echo(f"Providers have told {held.told:,} events since, and settled the mail they name.")
    if not doubtful:
        click.echo("No mail waits that was due before now: nothing can be sent twice.")
        return
    mails = sum(of_topic.mails for of_topic in doubtful)
    click.echo(f"{mails:,} mails would go out, and may have been sent since the back-up:")
    rows = [
        (
            t.topic_id or "(no topic)",
            t.mails,
            times.written_or_none(t.first_due_at_ms),
            times.written_or_none(t.last_due_at_ms),
        )
        for t in doubtful[:TOPICS_SHOWN]
    ]
    console().print(table(("topic", "mails", "first due", "last due"), rows))
    if len(doubtful) > TOPICS_SHOWN:
        click.echo(f"and {len(doubtful) - TOPICS_SHOWN:,} more topics; --json lists all")
