"""Figures and how they are told: results.json for programs, results.md and curves for people."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.bench.curves import curves, is_point, number

NO_RESULTS: Mapping[str, Any] = {"machine": {}, "figures": []}
PEER = "peer: "
"""How the names of others' figures begin."""


@dataclass(frozen=True)
class Figure:
    """One measured number: of the table's figure, what it should reach, and what bounds it."""

    figure: int
    name: str
    value: float
    unit: str
    target: str = ""
    """As `>= 8000` or `<= 20`; empty: told for comparison."""
    machine_limit: str = ""
    command: str = ""

    @property
    def met(self) -> bool | None:
        if not self.target:
            return None
        comparison, _, bound = self.target.partition(" ")
        return self.value >= float(bound) if comparison == ">=" else self.value <= float(bound)

    @property
    def row(self) -> dict[str, Any]:
        fields = {**asdict(self), "met": self.met}
        order = ("figure", "name", "value", "unit", "target", "met", "machine_limit", "command")
        return {name: fields[name] for name in order}


def read(directory: Path) -> Mapping[str, Any]:
    """What was written before."""
    path = directory / "results.json"
    document: Mapping[str, Any] = json.loads(path.read_text()) if path.exists() else NO_RESULTS
    return document


def merged(
    before: Mapping[str, Any], machine: Mapping[str, Any], figures: Sequence[Figure]
) -> dict[str, Any]:
    """What a command measured anew takes the place of what the same command measured before."""
    anew = {_what(figure.command) for figure in figures}
    rows = [row for row in before["figures"] if _what(row["command"]) not in anew]
    rows += [figure.row for figure in figures]
    return {"machine": machine, "figures": sorted(rows, key=lambda r: (r["figure"], r["command"]))}


def _what(command: str) -> str:
    """The command without how long."""
    return command.partition("--soak")[0] or command


def peers(rows: Sequence[Mapping[str, Any]], figure: int) -> list[str]:
    """What others did at the work of this figure."""
    return [
        f"{row['name']}: {number(row['value'])} {row['unit']}"
        for row in rows
        if row["figure"] == figure and row["name"].startswith(PEER)
    ]


def write(directory: Path, document: Mapping[str, Any]) -> None:
    """Write results.json, and what follows from it: results.md and the curves."""
    drawn = directory / "curves"
    drawn.mkdir(parents=True, exist_ok=True)
    (directory / "results.json").write_text(
        json.dumps(document, indent=1, ensure_ascii=False) + "\n"
    )
    (directory / "results.md").write_text(as_text(document))
    for old in drawn.glob("*.svg"):
        old.unlink()
    for curve in curves(document["figures"]):
        (drawn / curve.file).write_text(curve.svg())


def as_text(document: Mapping[str, Any]) -> str:
    """The tables, in Markdown."""
    lines = ["# Results", "", "| the machine | |", "|---|---|"]
    lines += [
        f"| {name.replace('_', ' ')} | {value} |" for name, value in document["machine"].items()
    ]
    lines += [
        "",
        "Load generators, sinks, peers and mailer share these cores. Each figure stands beside",
        "what the bare machine did just before it was measured; what peers did is told as part of",
        "the figure they compare with. Figure 11 is the soak.",
        "",
        "| # | figure | measured | target | | the machine's own | command |",
        "|---|---|---|---|---|---|---|",
    ]
    marks = {True: "met", False: "**not met**", None: ""}
    for row in document["figures"]:
        if not is_point(row):
            limit, _, _ = row["machine_limit"].partition(f"; {PEER}")
            lines.append(
                f"| {row['figure']} | {row['name']} | {number(row['value'])} {row['unit']}"
                f" | {row['target']} | {marks[row['met']]} | {limit} | `{row['command']}` |"
            )
    return "\n".join([*lines, *_curves_as_text(document)]) + "\n"


def _curves_as_text(document: Mapping[str, Any]) -> list[str]:
    lines = [
        "",
        "## Curves",
        "",
        "n stands for what the curve runs over. Where SQLite's single writer",
    ]
    lines += ["ends every growth stands above, in the last rows of figure 4.", ""]
    for curve in curves(document["figures"]):
        lines += [
            f"### Figure {curve.figure}: {curve.title}",
            "",
            f"{curve.formula()}",
            "",
            f"![{curve.title}](curves/{curve.file})",
            "",
            "| " + " | ".join([curve.axis, *(f"{x:,.10g}" for x, _ in curve.points)]) + " |",
            "|---" * (len(curve.points) + 1) + "|",
            "| " + " | ".join([curve.unit, *(number(y) for _, y in curve.points)]) + " |",
            "",
        ]
    return lines
