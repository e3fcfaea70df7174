"""`mailer events …`: the event log, and the dead letters of event plugins.

Reads and writes the database itself, so that the API need not run. A dead letter is an event that
a plugin failed at for good: it is told of it once more after `retry`, never after `skip`.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any, Final

import click

from mailer.api import times
from mailer.api.logged import described
from mailer.commands.database import open_store
from mailer.commands.tables import console, plain, table
from mailer.errors import NotFound
from mailer.hookspecs import Event
from mailer.settings import Settings
from mailer.store import Store
from mailer.store.cursors import DeadLetter
from mailer.store.log import LOOKED_AT, place_of
from mailer.vocabulary import EventType

PAGE: Final = 500
EVERY_S: Final = 0.5


@click.group(
    invoke_without_command=True,
    epilog="\b\nExamples:\n  mailer events --follow\n  mailer events --after 0 --type bounce",
)
@click.option("--after", metavar="ID", help="All behind this event; 0: all there are.")
@click.option(
    "--type",
    "type_",
    type=click.Choice([kind.value for kind in EventType]),
    help="Only events of this type.",
)
@click.option("--topic", "topic_id", help="Only events of this topic.")
@click.option("--limit", type=click.IntRange(min=1), default=50, help="Without --after: so many.")
@click.option("--follow", is_flag=True, help="Go on with what is new until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Print a line of JSON for each event.")
@click.pass_context
def events(
    context: click.Context,
    after: str | None,
    type_: str | None,
    topic_id: str | None,
    limit: int,
    follow: bool,
    as_json: bool,
) -> None:
    """The newest events of the log, the last one last.

    Without --after the last 5,000 entries are looked through.
    """
    if context.invoked_subcommand is not None:
        return
    say = _say_json if as_json else _say
    with closing(open_store(context.obj())) as store:
        kind = EventType(type_) if type_ else None
        pages = _pages(store, _place(store, after), kind, topic_id, follow=follow)
        if after is None:
            for event in deque(next(pages), limit):
                say(event)
        try:
            for page in pages:
                for event in page:
                    say(event)
        except KeyboardInterrupt:
            return


@events.command(epilog="\b\nExample:\n  mailer events dead --json | jq length")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
@click.pass_obj
def dead(load: Callable[[], Settings], /, as_json: bool) -> None:
    """Events that a plugin failed at for good."""
    with closing(open_store(load())) as store:
        told = [_letter(store, letter) for letter in _dead_letters(store)]
    if as_json:
        click.echo(json.dumps(told, indent=2))
        return
    columns = ("plugin", "event_id", "type", "failures", "failed_at", "detail")
    rows = ([letter[c] for c in columns] for letter in told)
    console().print(table(columns, rows))


def _of_dead_letters(command: Callable[..., None]) -> Callable[..., None]:
    """A plugin, and its dead letters: some by their ids, or all."""
    command = click.option("--all", "all_", is_flag=True, help="All dead letters of the plugin.")(
        command
    )
    command = click.argument("event_id", nargs=-1)(command)
    return click.argument("plugin")(command)


@events.command(epilog="\b\nExample:\n  mailer events retry webhook --all")
@_of_dead_letters
@click.pass_obj
def retry(
    load: Callable[[], Settings], /, plugin: str, event_id: Sequence[str], all_: bool
) -> None:
    """Tell a plugin once more of what it failed at.

    It is done by the supervisor's processes; what succeeds disappears from `mailer events dead`.
    """
    with closing(open_store(load())) as store, store.write():
        count = _each(store.cursors.retry, plugin, event_id, all_)
    click.echo(f"{plugin}: {count} to be told again")


@events.command(epilog="\b\nExample:\n  mailer events skip webhook 4711-19b2c3d4e5f")
@_of_dead_letters
@click.pass_obj
def skip(load: Callable[[], Settings], /, plugin: str, event_id: Sequence[str], all_: bool) -> None:
    """Forget what a plugin failed at."""
    with closing(open_store(load())) as store, store.write():
        count = _each(store.cursors.drop, plugin, event_id, all_)
    click.echo(f"{plugin}: {count} forgotten")


def _each(
    change: Callable[[str, int | None], int], plugin: str, event_ids: Sequence[str], all_: bool
) -> int:
    """Change these dead letters; how many. Raises NotFound."""
    if all_ == bool(event_ids):
        raise click.UsageError("name events, or give --all")
    if all_:
        return change(plugin, None)
    for event_id in event_ids:
        if not change(plugin, _parsed(event_id)):
            raise NotFound(f"there is no dead letter {event_id} of {plugin}; nothing was changed")
    return len(event_ids)


def _place(store: Store, after: str | None) -> int:
    return max(0, store.log.end() - LOOKED_AT) if after is None else _parsed(after)


def _parsed(event_id: str) -> int:
    try:
        return place_of(event_id)
    except ValueError as error:
        raise click.BadParameter(f"{event_id} is {error}") from None


def _pages(
    store: Store, place: int, type_: EventType | None, topic_id: str | None, *, follow: bool
) -> Iterator[list[Event]]:
    """All there is behind a place, and with `follow` all that comes."""
    while True:
        page = store.log.page(place, limit=LOOKED_AT, type_=type_, topic_id=topic_id)
        place = page.end
        yield page.events
        if not page.more:
            if not follow:
                return
            time.sleep(EVERY_S)


def _say(event: Event) -> None:
    about = event.mail_id or event.batch_id or "-"
    who = f"{event.recipient or '-'} {event.topic_id or '-'}"
    line = f"{times.written(event.at_ms)} {event.type:<11} {about} {who} {event.detail}"
    console().print(plain(line), soft_wrap=True)


def _say_json(event: Event) -> None:
    click.echo(json.dumps(described(event)))


def _dead_letters(store: Store) -> Iterator[DeadLetter]:
    after = ("", 0)
    while page := store.cursors.dead_letters(after=after, limit=PAGE):
        yield from page
        after = page[-1].plugin, page[-1].failure.event


def _letter(store: Store, letter: DeadLetter) -> dict[str, Any]:
    event = store.log.get(letter.failure.event)
    return {
        "plugin": letter.plugin,
        "event_id": event.id if event else str(letter.failure.event),
        "type": event.type if event else None,
        "failures": letter.failure.times,
        "detail": letter.failure.detail,
        "failed_at": times.written(letter.failed_at_ms),
        "retry": letter.retry,
        "event": described(event) if event else None,
    }
