"""A CSV file of recipients, read for `mailer send`: each address once, every bad row named."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from mailer.commands import csv_files


@dataclass(frozen=True, slots=True)
class Row:
    """One recipient as the API takes it, and the line of the file that tells of it."""

    line: int
    recipient: dict[str, Any]


@dataclass(frozen=True, slots=True)
class RecipientList:
    """The recipients of a file in its order."""

    rows: list[Row]
    duplicates: int
    """Rows left out because an earlier one has the same address."""
    has_data: bool
    """Whether there are columns beside email and name: then `{{ column }}` is filled in."""


def read(path: Path) -> RecipientList:
    """Read a file with a header line. Raises click.BadParameter, naming what is wrong and where."""
    faults: list[str] = []
    with csv_files.opened(path) as reader:
        columns = _columns(reader)
        rows = list(_rows(reader, columns, faults))
    csv_files.refuse(path, faults)
    if not rows:
        raise click.BadParameter(f"{path} has a header and no recipients")
    unique = {row.recipient["email"].casefold(): row for row in reversed(rows)}
    kept = sorted(unique.values(), key=lambda row: row.line)
    return RecipientList(kept, len(rows) - len(kept), has_data=len(columns - {"email", "name"}) > 0)


def _columns(reader: csv.DictReader[str]) -> set[str]:
    names = [name.strip() for name in reader.fieldnames or ()]
    if "email" not in names:
        found = ", ".join(names) or "nothing"
        raise click.BadParameter(
            f"the first line must name the columns, `email` among them; it names {found}"
        )
    bad = [name for name in names if not re.fullmatch(r"[^\W\d]\w*", name)]
    if bad or len(set(names)) < len(names):
        raise click.BadParameter(
            f"column names must differ and be words, as templates use them: {', '.join(names)}"
        )
    reader.fieldnames = names
    return set(names)


def _rows(reader: csv.DictReader[str], columns: set[str], faults: list[str]) -> Iterator[Row]:
    for values in reader:
        line = reader.line_num
        if None in values or None in values.values():
            faults.append(f"  line {line}: not {len(columns)} values")
            continue
        email = values["email"].strip()
        if not email:
            faults.append(f"  line {line}: no address")
            continue
        recipient: dict[str, Any] = {"email": email}
        if values.get("name"):
            recipient["name"] = values["name"].strip()
        if columns - {"email", "name"}:
            recipient["data"] = {name: values[name] for name in columns - {"email"}}
        yield Row(line, recipient)
