"""`mailer status`: one look at the whole, read from the database, so that it works when the API
does not. It changes nothing.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import click
import pluggy
from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from mailer import plugins
from mailer.api import times
from mailer.clock import Clock, SystemClock
from mailer.commands import ways_out
from mailer.commands.database import open_store
from mailer.commands.tables import console, plain, table
from mailer.settings import Settings
from mailer.store import Store
from mailer.store.library import has_wal_reset_bug, sqlite_version
from mailer.store.status import Depth
from mailer.store.topics import Topic
from mailer.vocabulary import GIVEN_UP, HANDED_OVER, State

TOPICS_AT_ONCE: Final = 500
EVERY_S: Final = 1.0


@click.command(
    epilog="\b\nExamples:\n  mailer status --watch\n  mailer status --json | jq .queue.waiting"
)
@click.option("--watch", is_flag=True, help="Look again every second until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object (a line each second).")
@click.pass_obj
def status(load: Callable[[], Settings], /, watch: bool, as_json: bool) -> None:
    """What waits, how fast it goes, each topic's numbers.

    Reads the database itself: neither API nor supervisor need be running.
    """
    settings = load()
    store = open_store(settings)
    try:
        looks = _looks(store, settings, plugins.load(), again=watch)
        if as_json:
            for seen in looks:
                click.echo(json.dumps(seen))
        elif watch:
            _live(looks)
        else:
            console().print(*(_shown(seen) for seen in looks))
    except KeyboardInterrupt:
        pass  # wherever it comes, it is how one ends --watch
    finally:
        store.close()


def look(
    store: Store, settings: Settings, manager: pluggy.PluginManager, clock: Clock
) -> dict[str, Any]:
    """Everything `status` shows, as it goes into JSON."""
    now_ms = clock.wall_ms()
    depths = store.status.depths()
    oldest_ms = store.status.oldest_due_at_ms(now_ms)
    held = store.hold.get()
    return {
        "at": times.written(now_ms),
        "database": str(store.path),
        "sqlite": {
            "version": ".".join(map(str, sqlite_version())),
            "wal_reset_bug": has_wal_reset_bug(sqlite_version()),
        },
        "disk": {
            "free_bytes": store.housekeeping.free_bytes(),
            "nearly_full": store.housekeeping.nearly_full(),
            "reserve": store.housekeeping.has_reserve(),
        },
        "transport": f"{settings.ways}",
        "held_since": times.written_or_none(held.since_ms if held else None),
        "queue": {
            "waiting": sum(depth.mails for depth in depths),
            "behind_s": (now_ms - oldest_ms) / 1000 if oldest_ms is not None else 0,
            "lanes": list(_lanes(depths)),
        },
        "rate": {
            "last_hour": store.transports.sent_since(now_ms // 60_000 - 60),
            "last_24h": store.transports.sent_since(now_ms // 60_000 - 24 * 60),
            "max_per_second": settings.max_send_per_second,
        },
        "transports": ways_out.transports(store, settings, clock),
        "limits": ways_out.limits(store, settings, clock),
        "approvals": ways_out.approvals(store, settings, clock),
        "senders": [
            {"id": sender.id, "pid": sender.pid, "alive": Path(f"/proc/{sender.pid}").exists()}
            for sender in store.senders.all()
        ],
        "event_plugins": list(_event_plugins(store)),
        "notes": list(_notes(store, manager)),
        "topics": [_topic(topic) for topic in _topics(store)],
    }


def _lanes(depths: Iterable[Depth]) -> Iterator[dict[str, Any]]:
    """What waits for each transport, whether or not another may take it."""
    waiting: Counter[tuple[str, str, str]] = Counter()
    for depth in depths:
        waiting[depth.transport, depth.domain, depth.lane] += depth.mails
    for (transport, domain, lane), mails in sorted((+waiting).items()):
        yield {"transport": transport, "domain": domain or None, "lane": lane, "mails": mails}


def _event_plugins(store: Store) -> Iterator[dict[str, Any]]:
    """How far each event plugin that is there has come, and what it fails at."""
    end = store.log.end()
    for cursor in store.cursors.all():
        if not cursor.live:
            continue
        failing = store.log.get(cursor.failure.event) if cursor.failure else None
        yield {
            "plugin": cursor.plugin,
            "events_behind": end - cursor.event,
            "failing": cursor.failure
            and {
                "event_id": failing and failing.id,
                "failures": cursor.failure.times,
                "detail": cursor.failure.detail,
                "retry_at": times.written(cursor.retry_at_ms),
            },
            "dead_letters": store.cursors.dead_count(cursor.plugin),
        }


def _notes(store: Store, manager: pluggy.PluginManager) -> Iterator[dict[str, Any]]:
    """What plugins say of themselves."""
    for plugin, sentences in plugins.troubles(manager, store.shelf):
        yield from ({"plugin": plugin, "note": sentence} for sentence in sentences)


def _looks(
    store: Store, settings: Settings, manager: pluggy.PluginManager, *, again: bool
) -> Iterator[Any]:
    clock = SystemClock()
    yield look(store, settings, manager, clock)
    while again:
        time.sleep(EVERY_S)
        yield look(store, settings, manager, clock)


def _live(looks: Iterator[Any]) -> None:
    with Live(console=console(), auto_refresh=False) as live:
        for seen in looks:
            live.update(_shown(seen), refresh=True)


def _topics(store: Store) -> Iterator[Topic]:
    after = ""
    while page := store.topics.list(after=after, limit=TOPICS_AT_ONCE):
        yield from page
        after = page[-1].topic_id


def _topic(topic: Topic) -> dict[str, Any]:
    return {
        "topic_id": topic.topic_id,
        "paused": topic.paused,
        "total": topic.counters["total"],
        "success": sum(topic.counters[state] for state in HANDED_OVER),
        "failure": sum(topic.counters[state] for state in GIVEN_UP),
        "opens": topic.counters["opens"],
        "states": {state.value: topic.counters[state] for state in State},
        "first_due_at": times.written_or_none(topic.first_due_at_ms),
        "last_sent_at": times.written_or_none(topic.last_sent_at_ms),
    }


def _shown(seen: dict[str, Any]) -> RenderableType:
    return Group(
        *(plain(line) for line in _lines(seen)),
        *_warnings(seen),
        table(
            ("topic", "total", "waiting", "in flight", "handed over", "failed", "opens", ""),
            (_topic_row(topic) for topic in seen["topics"]),
        ),
    )


def _lines(seen: dict[str, Any]) -> Iterator[str]:
    queue, rate = seen["queue"], seen["rate"]
    lanes = ", ".join(
        f"{x['transport']} {x['lane']}{' to ' + x['domain'] if x['domain'] else ''} {x['mails']:,}"
        for x in queue["lanes"]
        if x["mails"] or not x["domain"]
    )
    senders = [f"{s['pid']}{'' if s['alive'] else ' (gone)'}" for s in seen["senders"]]
    yield f"queue     {queue['waiting']:,} waiting" + (f" ({lanes})" if lanes else "")
    yield f"behind    {queue['behind_s']:.1f} s"
    for way in seen["transports"]:
        if way["chosen"] and way["limit_per_second"]:
            at_most = f"(at most {round(way['limit_per_second'], 1):g})"
            yield f"rate      {way['transport']} {way['last_second']}/s {at_most}"
    yield f"sent      {rate['last_hour']:,} in the last hour, {rate['last_24h']:,} in 24 hours"
    for used in seen["limits"]:
        yield f"limit     {ways_out.limit_line(used)}"
    yield f"senders   {', '.join(senders) or 'none: run `mailer supervise`, or nothing is sent'}"
    for plugin in seen["event_plugins"]:
        yield f"plugin    {', '.join(_told(plugin))}"
    for note in seen["notes"]:
        yield f"plugin    {note['plugin']}: {note['note']}"
    yield f"transport {seen['transport']}"
    yield f"database  {seen['database']}, SQLite {seen['sqlite']['version']}"


def _told(plugin: dict[str, Any]) -> Iterator[str]:
    behind, failing, dead = (plugin[n] for n in ("events_behind", "failing", "dead_letters"))
    yield f"{plugin['plugin']}: {behind:,} events behind"
    if failing:
        times_ = f"failed {failing['failures']} times at event {failing['event_id']}"
        yield f"{times_} ({failing['detail']}), told again at {failing['retry_at']}"
    if dead:
        yield f"{dead:,} events put aside (`mailer events dead`)"


def _warnings(seen: dict[str, Any]) -> Iterator[Text]:
    if seen["held_since"]:
        yield plain(
            f"held      since {seen['held_since']}, restored from a back-up: nothing is sent until"
            " `mailer release`"
        )
    for transport in seen["transports"]:
        yield from (plain(f"warning   {line}") for line in ways_out.lines(transport))
    for asked in seen["approvals"]:
        yield plain(
            f"approval  {asked['value']} asks to be believed; if it is yours: {asked['line']}"
        )
    if seen["disk"]["nearly_full"]:
        sending = "" if seen["disk"]["reserve"] else ", none is handed over"
        yield plain(f"disk      nearly full: new mail is refused{sending}, until there is room")
    if seen["sqlite"]["wal_reset_bug"]:
        yield Text(
            "SQLite    this version has the WAL-reset bug: let no other program write to the file"
        )


def _topic_row(topic: dict[str, Any]) -> tuple[object, ...]:
    states = topic["states"]
    return (
        topic["topic_id"],
        topic["total"],
        states[State.PENDING],
        states[State.SENDING] + states[State.UNCERTAIN],
        topic["success"],
        topic["failure"],
        topic["opens"],
        "paused" if topic["paused"] else "",
    )
