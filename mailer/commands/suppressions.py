"""`mailer suppressions …`: the list of addresses that are not to be written to.

Reads and writes the database itself, so that reasons and dates are kept and the API need not run;
each step is one transaction, and every command may be repeated. A plugin offers another list than
a CSV file by an option of its own on `import` (`source`) and `export` (`target`).
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from typing import Final

import click

from mailer.api import times
from mailer.clock import SystemClock
from mailer.commands import csv_files
from mailer.commands.database import open_store
from mailer.commands.tables import console, table
from mailer.errors import Fault, InvalidRequest
from mailer.mail import Suppression
from mailer.settings import Settings
from mailer.store import Store
from mailer.vocabulary import SCOPE_EVERYWHERE, SuppressionReason

COLUMNS: Final = ("email", "scope", "reason", "created_at", "detail")
STEP: Final = 500
"""Entries in one transaction, so that nobody waits long for the next."""

Source = Callable[[Settings], Iterable[Suppression]]
"""Reads a provider's list."""
Target = Callable[[Settings, Iterable[Suppression]], str]
"""Puts entries on a provider's list; what it did, as a sentence."""

_scope = click.option(
    "--scope", metavar="GROUP", help="Only in topics of this group (up to the first /)."
)


@click.group()
def suppressions() -> None:
    """Addresses that are not to be written to."""


@suppressions.command("list", epilog="\b\nExample:\n  mailer suppressions list eve@example.com")
@click.argument("email", required=False)
@click.option("--limit", type=click.IntRange(min=1), default=100, help="At most so many.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
@click.pass_obj
def list_(load: Callable[[], Settings], /, email: str | None, limit: int, as_json: bool) -> None:
    """Who is on the list, why, and since when."""
    store = open_store(load())
    try:
        found = store.suppressions.list(email=email, after=("", ""), limit=limit)
    finally:
        store.close()
    if as_json:
        rows = [dict(zip(COLUMNS, _written(entry), strict=True)) for entry in found]
        click.echo(json.dumps(rows, indent=2))
    else:
        console().print(table(COLUMNS, (_written(entry) for entry in found)))


@suppressions.command(epilog="\b\nExample:\n  mailer suppressions add eve@example.com --scope news")
@click.argument("email")
@_scope
@click.option("--detail", default="", help="A note for those who look at the list.")
@click.pass_obj
def add(load: Callable[[], Settings], /, email: str, scope: str | None, detail: str) -> None:
    """Write to this address no more: everywhere, or in one group of topics."""
    scope = scope or SCOPE_EVERYWHERE
    address, faults = _checked(email, scope, detail)
    if faults:
        raise InvalidRequest(faults)
    now_ms = SystemClock().wall_ms()
    added, _ = _add(load(), [Suppression(address, scope, SuppressionReason.MANUAL, detail, now_ms)])
    click.echo(f"{address}: {'added' if added else 'was on the list already'}")


@suppressions.command(epilog="\b\nExample:\n  mailer suppressions remove eve@example.com")
@click.argument("email")
@_scope
@click.pass_obj
def remove(load: Callable[[], Settings], /, email: str, scope: str | None) -> None:
    """Allow an address again: everywhere, or in one group of topics."""
    store = open_store(load())
    try:
        with store.write():
            removed = store.suppressions.remove(email, scope=scope)
    finally:
        store.close()
    click.echo(f"{email}: {removed} {'entry' if removed == 1 else 'entries'} removed")


@suppressions.command("import", epilog="\b\nExample:\n  mailer suppressions import list.csv")
@click.argument(
    "file", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_obj
def import_(
    load: Callable[[], Settings],
    /,
    file: Path | None,
    as_json: bool,
    source: Source | None = None,
) -> None:
    """Add the entries of a CSV file, or of a provider's list.

    The columns are email and, if you like, scope, reason, created_at and detail. What is on the
    list already stays as it is.
    """
    settings = load()
    if file is not None and not source:
        entries: Iterable[Suppression] = _read(file)
    elif source and file is None:
        entries = source(settings)
    else:
        raise click.UsageError("give a CSV file, or the option for a provider's list")
    added, present = _add(settings, entries)
    if as_json:
        click.echo(json.dumps({"added": added, "present": present}))
    else:
        click.echo(f"{added:,} added, {present:,} were on the list already")


@suppressions.command(epilog="\b\nExample:\n  mailer suppressions export > list.csv")
@click.pass_obj
def export(load: Callable[[], Settings], /, target: Target | None = None) -> None:
    """Write the whole list as CSV to standard output, or to a provider's list."""
    settings = load()
    store = open_store(settings)
    try:
        if target:
            click.echo(target(settings, store.suppressions.all()))
            return
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(_written(entry) for entry in store.suppressions.all())
    finally:
        store.close()


def _add(settings: Settings, entries: Iterable[Suppression]) -> tuple[int, int]:
    """How many were added, and how many there already."""
    store = open_store(settings)
    added = total = 0
    waiting = iter(entries)
    try:
        while step := list(islice(waiting, STEP)):
            total += len(step)
            added += _add_step(store, step)
    finally:
        store.close()
    return added, total - added


def _add_step(store: Store, step: Iterable[Suppression]) -> int:
    with store.write():
        return sum(
            store.suppressions.add(
                entry.email,
                scope=entry.scope,
                reason=entry.reason,
                detail=entry.detail,
                now_ms=entry.created_at_ms,
            )
            for entry in step
        )


def _read(path: Path) -> list[Suppression]:
    """The entries of a file, all of them checked. Raises click.BadParameter."""
    now_ms = SystemClock().wall_ms()
    faults: list[str] = []
    found: list[Suppression] = []
    with csv_files.opened(path) as reader:
        names = [name.strip().lower() for name in reader.fieldnames or ()]
        if "email" not in names or len(set(names)) < len(names):
            columns = ", ".join(COLUMNS)
            raise click.BadParameter(
                f"{path}: the first line must name the columns ({columns}), email among them;"
                f" it names {', '.join(names) or 'nothing'}"
            )
        reader.fieldnames = names
        for values in reader:
            try:
                found.append(_entry(values, now_ms))
            except ValueError as error:
                faults.append(f"  line {reader.line_num}: {error}")
    csv_files.refuse(path, faults)
    return found


def _checked(email: str, scope: str, detail: str) -> tuple[str, list[Fault]]:
    from mailer.api.entries import checked  # brings the API's framework, to each process

    return checked(email, scope, detail)


def _entry(values: dict[str, str], now_ms: int) -> Suppression:
    """Raises ValueError with what is wrong."""
    if None in values or None in values.values():
        raise ValueError("more or fewer values than columns")
    given = {name: values.get(name, "").strip() for name in COLUMNS}
    address, faults = _checked(given["email"], given["scope"], given["detail"])
    if faults:
        raise ValueError("; ".join(f"{fault.path}: {fault.message}" for fault in faults))
    reason = given["reason"].lower() or SuppressionReason.MANUAL
    if reason not in set(SuppressionReason):
        raise ValueError(f"reason: {reason} is none of {', '.join(SuppressionReason)}")
    try:
        at_ms = times.parse(given["created_at"], now_ms=now_ms) if given["created_at"] else now_ms
    except times.TimeError as error:
        raise ValueError(f"created_at: {error}") from None
    return Suppression(address, given["scope"], SuppressionReason(reason), given["detail"], at_ms)


def _written(entry: Suppression) -> tuple[str, str, str, str, str]:
    at = times.written(entry.created_at_ms)
    return entry.email, entry.scope, entry.reason, at, entry.detail
