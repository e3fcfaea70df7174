"""Putting things that others wrote onto a terminal: tables of plain text.

Topics, addresses and providers' words are shown letter by letter: neither rich's markup nor a
terminal's control sequences in them do anything. Without a terminal there is no colour, and lines
are as long as they need to be.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

PIPE_COLUMNS: Final = 250


def console() -> Console:
    """Standard output."""
    standard = Console(highlight=False, markup=False, emoji=False)
    if standard.is_terminal:
        return standard
    return Console(highlight=False, markup=False, emoji=False, width=PIPE_COLUMNS, no_color=True)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str = "") -> Table:
    """Numbers stand to the right, everything else to the left."""
    listed = [list(row) for row in rows]
    made = Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for index, column in enumerate(columns):
        numbers = bool(listed) and all(isinstance(row[index], int | float) for row in listed)
        made.add_column(column, justify="right" if numbers else "left", overflow="fold")
    for row in listed:
        made.add_row(*(plain(cell) for cell in row))
    return made


def plain(cell: object) -> Text:
    """Any value as text that does nothing."""
    text = "" if cell is None else f"{cell:,}" if isinstance(cell, int) else str(cell)
    return Text("".join(char if char.isprintable() else "\ufffd" for char in text))
