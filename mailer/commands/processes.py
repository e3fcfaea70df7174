"""The commands that stay: the API, the supervisor with its senders, or both in one.

Each logs at its start by which way mail leaves and where the API listens, so that nobody has to
guess whether real mail is sent. Root is refused, unless it says that it means it.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
from collections import defaultdict
from collections.abc import Callable

import click

from mailer import __version__, plugins
from mailer.errors import SettingFault, SettingsError
from mailer.privileges import refuse_root
from mailer.records import require_database
from mailer.settings import Settings
from mailer.store.library import has_wal_reset_bug, sqlite_version
from mailer.store.migrate import migrate as migrate_database

log = logging.getLogger("mailer")

_allow_root = click.option(
    "--allow-root", is_flag=True, help="Let root run this, where there is no other user."
)


@click.command(epilog="\b\nExample:\n  mailer migrate && mailer serve")
@_allow_root
@click.option("--until-stdin-ends", is_flag=True, hidden=True)
@click.pass_obj
def serve(load: Callable[[], Settings], /, allow_root: bool, until_stdin_ends: bool) -> None:
    """Answer the API until SIGTERM or Ctrl-C.

    The database must be migrated; a supervisor must run beside it for mail to leave.
    """
    from mailer.api import server
    from mailer.reporting import start

    settings = load()
    # By that option `mailer run` starts it, which was asked itself.
    refuse_root(allowed=allow_root or settings.allow_root or until_stdin_ends)
    start(settings, "api")
    announce(settings, api=True)
    require_database(settings)
    if until_stdin_ends:
        threading.Thread(target=_stop_when_stdin_ends, daemon=True).start()
    server.serve(settings)


@click.command(epilog="\b\nExample:\n  SENDERS=4 mailer supervise")
@_allow_root
@click.option("--notify-socket", envvar="NOTIFY_SOCKET", hidden=True)
@click.pass_context
def supervise(context: click.Context, allow_root: bool, notify_socket: str | None) -> None:
    """Run the senders and the duties until SIGTERM or Ctrl-C.

    One supervisor for each database: a second one refuses to start and says who holds it.
    """
    from mailer import supervisor
    from mailer.reporting import start

    settings: Settings = context.obj()
    refuse_root(allowed=allow_root or settings.allow_root)
    start(settings, "supervisor")
    announce(settings, api=False)
    require_database(settings)
    context.exit(supervisor.main(settings, notify_socket=notify_socket))


@click.command(
    epilog="\b\nExample:\n  DATABASE_URL=sqlite://mail.db MAILDIR_PATH=./mail mailer run"
)
@_allow_root
@click.pass_context
def run(context: click.Context, allow_root: bool) -> None:
    """Migrate, then run everything: API, supervisor, senders.

    For trying out and for small hosts; ends by SIGTERM or Ctrl-C.
    """
    from mailer import supervisor
    from mailer.api.server import application
    from mailer.reporting import start

    settings: Settings = context.obj()  # `mailer serve`, its child, announces for all
    refuse_root(allowed=allow_root or settings.allow_root)
    start(settings, "supervisor")
    application(settings)  # what it can't serve would end that child again and again
    require_free(settings.listen)
    migrate_database(settings.database_path)
    context.exit(supervisor.main(settings, with_api=True))


@click.command(hidden=True, epilog="\b\nExample:\n  mailer sender 0")
@click.argument("index", type=click.IntRange(min=0))
@click.pass_context
def sender(context: click.Context, index: int) -> None:
    """Send mail as sender number INDEX; started by the supervisor, not by hand."""
    from mailer import sender_process
    from mailer.reporting import start

    settings: Settings = context.obj()
    start(settings, f"sender-{index}")
    context.exit(sender_process.main(settings, index))


@click.command(hidden=True, epilog="\b\nExample:\n  mailer worker sqs")
@click.argument("name")
@click.pass_obj
def worker(load: Callable[[], Settings], /, name: str) -> None:
    """Do a plugin's long-running job NAME; started by the supervisor, not by hand."""
    from mailer import worker as process
    from mailer.confined import confine
    from mailer.reporting import start

    settings = load()
    start(settings, f"worker-{name}", confined=True)
    confine(settings.plugin_memory_mb)
    process.main(settings, name)


@click.command(hidden=True, epilog="\b\nExample:\n  mailer notifier webhook")
@click.argument("plugin")
@click.pass_obj
def notifier(load: Callable[[], Settings], /, plugin: str) -> None:
    """Tell PLUGIN of each event; started by the supervisor, not by hand."""
    from mailer import notifier as process
    from mailer.confined import confine
    from mailer.reporting import start

    settings = load()
    start(settings, f"notifier-{plugin}", confined=True)
    confine(settings.plugin_memory_mb)
    process.main(settings, plugin)


def require_free(listen: tuple[str, int]) -> None:
    """Raises SettingsError when another program has the API's address."""
    family = socket.AF_INET6 if ":" in listen[0] else socket.AF_INET
    try:
        socket.create_server(listen, family=family).close()
    except OSError as error:
        problem = f"{listen[0]} port {listen[1]} can't be listened on: {error.strerror}"
        accepted = "an address of this machine and a port that no other program has"
        raise SettingsError([SettingFault("SERVER_PORT or BIND", problem, accepted)]) from None


def announce(settings: Settings, *, api: bool) -> None:
    """Log what this start means. Raises MailerError when the transport can't be used."""
    transports = plugins.transports(plugins.load(), settings)
    chosen = sorted(settings.ways.names)
    meant = {
        "transport": f"{settings.ways}",
        "transport_because": _why_transport(settings),
        "destination": ", ".join(transports[name].destination for name in chosen),
        "database": settings.database_path.absolute(),
        "settings": _origins(settings),
    }
    if api:
        host, port = settings.listen
        host = f"[{host}]" if ":" in host else host
        meant |= {"api": f"http://{host}:{port}", "api_for": _who_may_call(settings)}
    log.info("mailer %s starts", __version__, extra=meant)
    if has_wal_reset_bug(sqlite_version()):
        log.warning(
            "SQLite %s can lose commits that race a checkpoint (WAL-reset bug). mailer keeps the"
            " two apart; let no other program write to the database. Where there is a wheel, `pip"
            " install pysqlite3` brings a mended library.",
            ".".join(map(str, sqlite_version())),
        )


def _stop_when_stdin_ends() -> None:
    """The supervisor holds the other end: it closes when that process ends, however it ends."""
    while os.read(sys.stdin.fileno(), 64):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _origins(settings: Settings) -> str:
    """What is set, by where: `environment: SENDERS TRANSPORT; credentials: JWT_SECRET`."""
    names = defaultdict(list)
    for origin in settings.chosen_because.values():
        name, _, place = origin.partition(" in ")
        names[place].append(name)
    return "; ".join(f"{place}: {' '.join(found)}" for place, found in names.items())


def _why_transport(settings: Settings) -> str:
    if settings.transport:
        return f"chosen by {settings.chosen_because['TRANSPORT']}"
    if settings.transport_name == "ses":
        return "because AWS_SES_FROM_EMAIL is set and TRANSPORT is not"
    return "the default: neither TRANSPORT nor AWS_SES_FROM_EMAIL is set"


def _who_may_call(settings: Settings) -> str:
    if settings.authenticates:
        return "for callers with a token or key"
    if settings.allow_unauthenticated:
        return "open to everyone who reaches it (ALLOW_UNAUTHENTICATED)"
    return "open to this machine only (neither JWT_SECRET nor API_KEY is set)"
