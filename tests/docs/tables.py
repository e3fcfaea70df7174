"""The README's tables as they follow from the code: the documentation is compared with these."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import click
import pytest

from mailer import plugins
from mailer.api.backend import Backend
from mailer.api.operations import Operation
from mailer.api.routes import routes
from mailer.clock import SystemClock
from mailer.commands import add_commands_of_plugins, cli
from mailer.log_lines import FIELDS
from mailer.metrics import METRICS
from mailer.store import Store
from mailer.vocabulary import (
    CONDITION_MEANINGS,
    MOVES,
    STATE_MEANINGS,
    WAITS_FOR_MEANINGS,
    State,
)


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    lines = [list(columns), ["---"] * len(columns), *escaped]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def settings() -> str:
    listed = plugins.settings(MANAGER, {}).listed()
    return table(
        ("variable", "default", "accepted", "meaning"),
        (
            (
                ", ".join(f"`{name}`" for name in variable.names),
                _default(variable.name, variable.default),
                variable.accepted,
                variable.doc,
            )
            for variable, _ in listed
        ),
    )


def _default(name: str, value: object) -> str:
    written = {
        "DATABASE_URL": "sqlite://sqlite3.db",
        "FAIL_OVER_AFTER": "5m",
        "INTERACTIVE_RESERVE": "5%",
        "MAX_AGE": "48h",
        "MAX_SEND_PER_SECOND": "12",
    }
    if value in (None, ()) or not str(value):
        return ""
    return f"`{written.get(name, int(value) if isinstance(value, bool) else value)}`"


def states() -> str:
    return table(
        ("state", "meaning", "may become"),
        (
            (f"`{state}`", STATE_MEANINGS[state], ", ".join(f"`{new}`" for new in _sorted(state)))
            for state in State
        ),
    )


def diagram() -> str:
    moves = [f"    {old} --> {new}" for old in State for new in _sorted(old)]
    return "\n".join(["stateDiagram-v2", "    [*] --> pending", *moves])


def _sorted(old: State) -> list[State]:
    return [new for new in State if new in MOVES[old]]


def waits() -> str:
    rows = ((f"`{waits_for}`", meaning) for waits_for, meaning in WAITS_FOR_MEANINGS.items())
    return table(("`waits_for`", "why"), rows)


def conditions() -> str:
    rows = ((f"`{condition}`", meaning) for condition, meaning in CONDITION_MEANINGS.items())
    return table(("a transport is", "meaning"), rows)


def log_fields() -> str:
    return table(("field", "meaning"), ((f"`{name}`", told) for name, told in FIELDS.items()))


def commands() -> str:
    return table(
        ("command", "what it does", "options"),
        (
            (
                f"`{_usage(name, command)}`",
                (command.help or "").partition("\n")[0].rstrip("."),
                " ".join(f"`{option.opts[0]}`" for option in options(command)),
            )
            for name, command in visible_commands()
        ),
    )


def visible_commands() -> list[tuple[str, click.Command]]:
    """Every command there is, the plugins' too, with its full name."""
    return list(_visible("mailer", cli))


def _visible(name: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        if command.invoke_without_command:
            yield name, command
        for part in command.commands.values():
            yield from _visible(f"{name} {part.name}", part)
    elif not command.hidden:
        yield name, command


def options(command: click.Command) -> list[click.Option]:
    return [p for p in command.params if isinstance(p, click.Option) and not p.hidden]


def _usage(name: str, command: click.Command) -> str:
    arguments = [p.human_readable_name for p in command.params if isinstance(p, click.Argument)]
    return " ".join([name, *arguments])


MANAGER = plugins.load()
add_commands_of_plugins(MANAGER, say=lambda problem: pytest.fail(problem, pytrace=False))


def operations() -> Iterator[tuple[str, str, Operation]]:
    """Method, path and operation of everything served."""

    def no_store() -> Store:
        raise AssertionError("describing the API opens no database")

    backend = Backend(
        settings=plugins.settings(MANAGER, {}),
        clock=SystemClock(),
        plugins=MANAGER,
        transports=frozenset(),
        open_store=no_store,
    )
    for route in routes(backend):
        for method, operation in route.operations.items():
            yield method, operation.path or route.template.replace(":path}", "}"), operation


def metrics() -> str:
    return table(
        ("metric", "kind", "labels", "meaning"),
        (
            (f"`{m.name}`", m.kind, ", ".join(f"`{label}`" for label in m.labels), m.meaning)
            for m in METRICS
        ),
    )


def api() -> str:
    return table(
        ("call", "scope", "what it does"),
        (
            (f"`{method} {path}`", operation.scope or "none", operation.summary)
            for method, path, operation in operations()
        ),
    )
