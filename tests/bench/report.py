"""Figures and how they are told: `results.json` for programs, `results.md` for people."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Figure:
    """One measured number: of the table's figure, what it should reach, and what bounds it."""

    figure: int
    name: str
    value: float
    unit: str
    target: str
    """As `>= 8000` or `<= 20`; empty: told for comparison."""
    machine_limit: str
    command: str

    @property
    def met(self) -> bool | None:
        if not self.target:
            return None
        comparison, _, bound = self.target.partition(" ")
        return self.value >= float(bound) if comparison == ">=" else self.value <= float(bound)


def write(directory: Path, machine: Mapping[str, Any], figures: Sequence[Figure]) -> None:
    """Write both files. A figure measured anew takes the place of the one before."""
    rows = [{**asdict(figure), "met": figure.met} for figure in figures]
    document = {"machine": machine, "figures": rows}
    (directory / "results.json").write_text(json.dumps(document, indent=1) + "\n")
    (directory / "results.md").write_text(as_text(machine, figures))


def as_text(machine: Mapping[str, Any], figures: Sequence[Figure]) -> str:
    """The tables, in Markdown."""
    lines = ["# Results", "", "| the machine | |", "|---|---|"]
    lines += [f"| {name.replace('_', ' ')} | {value} |" for name, value in machine.items()]
    lines += [
        "",
        "Load generators, sinks and mailer share these cores.",
        "",
        "| # | figure | measured | target | | the machine's own | command |",
        "|---|---|---|---|---|---|---|",
    ]
    marks = {True: "met", False: "**not met**", None: ""}
    for figure in figures:
        value = f"{figure.value:,.4g}" if figure.value < 100 else f"{figure.value:,.0f}"
        lines.append(
            f"| {figure.figure} | {figure.name} | {value} {figure.unit} | {figure.target}"
            f" | {marks[figure.met]} | {figure.machine_limit} | `{figure.command}` |"
        )
    return "\n".join(lines) + "\n"
