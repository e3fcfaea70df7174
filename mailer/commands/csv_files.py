"""CSV files that people bring: what is wrong with one is told in words, by its line."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import click

NAMED_FAULTS: Final = 20
"""So many rows are named; a file of another kind would name them all."""


@contextmanager
def opened(path: Path) -> Iterator[csv.DictReader[str]]:
    """A file with a header line. Raises click.BadParameter when it is no CSV in UTF-8."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        try:
            yield reader
        except UnicodeDecodeError as error:
            raise click.BadParameter(f"{path} is not UTF-8: {error.reason}") from error
        except csv.Error as error:
            raise click.BadParameter(f"{path}, line {reader.reader.line_num}: {error}") from error


def refuse(path: Path, faults: Sequence[str]) -> None:
    """Raises click.BadParameter when there are any."""
    if faults:
        more = [f"and {len(faults) - NAMED_FAULTS} more"] if len(faults) > NAMED_FAULTS else []
        raise click.BadParameter("\n".join([f"{path}:", *faults[:NAMED_FAULTS], *more]))
