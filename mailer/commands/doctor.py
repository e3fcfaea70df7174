"""`mailer doctor`: looks at everything mail needs on its way, and says what to do about each fault.

The parts are looked at side by side, each for so long at most; none can raise to the user.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, TimeoutError
from dataclasses import asdict
from itertools import chain
from typing import Final

import click
from rich.text import Text

from mailer import plugins
from mailer.clock import SystemClock
from mailer.commands import checks, reach, trial
from mailer.commands.checks import FAILURE, OK
from mailer.commands.tables import console, plain
from mailer.duties import in_background
from mailer.errors import MailerError, PluginError, SettingsError
from mailer.hookspecs import Check, Probe
from mailer.settings import Settings
from mailer.vocabulary import CheckResult

WITHIN_S: Final = 30.0
STYLES: Final = {CheckResult.OK: "green", CheckResult.WARNING: "yellow", CheckResult.FAILURE: "red"}

Probes = Callable[[], Sequence[Probe]]
"""What an option of a plugin's own (`probes`) has sent."""
Part = Callable[[], Iterable[Check]]


@click.command(epilog="\b\nExample:\n  mailer doctor --json | jq '.[] | select(.result != \"ok\")'")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
@click.option(
    "--patience",
    type=click.FloatRange(min=1),
    default=60.0,
    show_default=True,
    help="How many seconds mail sent for a trial may take.",
)
@click.pass_context
def doctor(
    context: click.Context, /, as_json: bool, patience: float, probes: Probes | None = None
) -> None:
    """Look at everything mail needs on its way, and say what to do about each fault.

    It changes nothing, unless it is to send. Exit status 1 when anything has failed.
    """
    found: list[Check] = []
    checks_made = examined(context.obj)
    if probes:
        checks_made = chain(checks_made, _round_trip(context.obj, probes, patience))
    for check in checks_made:
        found.append(check)
        if not as_json:
            console().print(*_shown(check), sep="\n")
    if as_json:
        click.echo(json.dumps([asdict(check) for check in found], indent=2))
    context.exit(int(any(check.result is FAILURE for check in found)))


def examined(load: Callable[[], Settings], within_s: float = WITHIN_S) -> Iterator[Check]:
    """Every line, in order. With wrong settings there is nothing else to look at."""
    from mailer.api.server import application

    try:
        settings = load()
        manager = plugins.load()
        plugins.transports(manager, settings)
        application(settings)
    except SettingsError as error:
        for fault in error.faults:
            advice = f"accepted: {fault.accepted}"
            yield Check(f"setting {fault.name}", FAILURE, fault.problem, advice)
        return
    except PluginError as error:
        yield Check("plugins", FAILURE, f"{error}", "mend or remove it: nothing starts with it")
        return
    yield Check("settings", OK, f"all are valid; mail leaves by {settings.ways}")
    clock = SystemClock()
    parts: list[tuple[str, Part]] = [
        ("database", lambda: checks.local(settings, clock)),
        ("API", lambda: reach.api(settings)),
        ("SERVER_URL", lambda: reach.public_url(settings, clock.wall_ms() / 1000)),
    ]
    for name, hook in plugins.one_by_one(manager, "mailer_checks"):
        parts.append((f"plugin {name}", _of_plugin(hook, settings)))
    begun = [(name, in_background(_told(name, part))) for name, part in parts]
    for name, told in begun:
        yield from _ended(name, told, within_s)


def _round_trip(load: Callable[[], Settings], probes: Probes, patience_s: float) -> Iterator[Check]:
    try:
        yield from trial.round_trip(load(), probes(), patience_s)
    except (MailerError, OSError) as error:
        yield Check("trial", FAILURE, f"{error}")


def _of_plugin(hook: Callable[..., Iterable[Iterable[Check]]], settings: Settings) -> Part:
    def work() -> Iterator[Check]:
        for check in (check for answer in hook(settings=settings) for check in answer):
            if not isinstance(check, Check):
                raise TypeError(f"{check!r} is no Check")
            yield check

    return work


def _told(name: str, part: Part) -> Callable[[], list[Check]]:
    """All lines of a part, what it raises among them."""

    def work() -> list[Check]:
        found: list[Check] = []
        try:
            found.extend(part())
        except (MailerError, OSError) as error:
            found.append(Check(name, FAILURE, f"{error}"))
        except BaseException as error:
            words = f"the check itself failed: {type(error).__name__}: {error}"
            found.append(Check(name, FAILURE, words, f"report this as a fault of {name}"))
        return found

    return work


def _ended(name: str, told: Future[list[Check]], within_s: float) -> list[Check]:
    try:
        return told.result(timeout=within_s)
    except TimeoutError:
        advice = "something it asks hangs: the network, or the disk"
        return [Check(name, FAILURE, f"did not end within {within_s:g} s", advice)]


def _shown(check: Check) -> Iterator[Text]:
    line = Text(f"{check.result:<9}", style=STYLES[check.result])
    yield line.append_text(plain(f"{check.name:<18} {check.finding}"))
    if check.result is not OK and check.advice:
        yield plain(f"{'':<9}{'':<18} → {check.advice}")
