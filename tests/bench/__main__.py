"""Measure mailer beside the bare machine and its peers.

    python -m tests.bench [--only NAME]… [--scale SHARE]
    python -m tests.bench --soak MINUTES

Needs Debian's `wrk` and `postfix`, root (as Postfix does), a package index for the other peers, and
9 GB in TMPDIR. It writes results.json, results.md and curves/ beside this file, and the paragraph
of the README that tells of them; what a command measured before makes room for what it measures
now. With --short, for a first look and for CI, it only prints, unless --out says where to write.

What is measured is also checked: all mail is there, counters equal a recount. Only that can fail.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from tests.bench import (
    accepting,
    draining,
    growth,
    machine,
    pacing,
    peers,
    queued,
    report,
    scale,
    soak,
    standing,
)
from tests.bench.curves import number
from tests.bench.report import Figure
from tests.bench.stored import COMPARED_WITH, Stock, stored

HERE: Final = Path(__file__).parent
BYTES_A_MAIL: Final = 900
"""On disk, for each mail of the largest size: the stock at all sizes, a copy, WALs, a back-up."""

SIZES: Final = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)

Part = Callable[[Path], Iterator[Figure]]


@dataclass(frozen=True)
class Size:
    """How much is measured, and how long."""

    seconds: int
    steady_s: int
    """How long the cost at a steady rate, and when idle, is measured."""
    sizes: Sequence[int]
    """Mails in the databases that are looked at."""
    drained: int
    drained_ses: int
    growing: Sequence[int]
    """The databases that figures 1 to 5 are measured on."""
    drained_growing: int
    with_events: int
    events: int
    rates: Sequence[int]
    limit_senders: Sequence[int]
    senders: Sequence[int]
    to_postfix: int
    queues: Sequence[str]
    soak_minutes: float

    @property
    def brief(self) -> int:
        """Seconds for each point of a curve."""
        return max(1, self.seconds // 3)

    def scaled(self, share: float) -> Size:
        """With databases up to that share of the largest."""
        sizes = [size for size in self.sizes if size <= share * self.sizes[-1]]
        return replace(self, sizes=sizes, growing=sizes)


FULL: Final = Size(
    seconds=10,
    steady_s=30,
    sizes=SIZES,
    drained=200_000,
    drained_ses=50_000,
    growing=SIZES,
    drained_growing=40_000,
    with_events=1_000_000,
    events=50_000,
    rates=(14, 100, 500),
    limit_senders=(1, 2, 4),
    senders=(1, 2, 4, 8),
    to_postfix=5_000,
    queues=tuple(peers.QUEUES),
    soak_minutes=30,
)
SHORT: Final = Size(
    seconds=2,
    steady_s=2,
    sizes=(1_000, COMPARED_WITH),
    drained=10_000,
    drained_ses=2_000,
    growing=(COMPARED_WITH,),
    drained_growing=5_000,
    with_events=5_000,
    events=2_000,
    rates=(100,),
    limit_senders=(2,),
    senders=(2,),
    to_postfix=300,
    queues=(),
    soak_minutes=0.15,
)


def parts(size: Size, stock: Stock) -> list[tuple[str, Part]]:
    """What is measured, by the name that --only takes; the largest stock is used up at the end."""
    long, brief = size.seconds, size.brief
    mails = size.drained_growing
    return [
        ("peers", lambda at: peers.peers(at, size.to_postfix, long, size.queues)),
        ("1", lambda at: accepting.singles(at, long)),
        ("2", lambda at: accepting.large(at, 2 * long)),
        ("3", lambda at: draining.drain(at, size.drained)),
        ("3", lambda at: draining.drain_ses(at, size.drained_ses)),
        ("4", lambda at: draining.through(at, long)),
        ("5", lambda at: pacing.waits(at, long)),
        ("6", lambda at: pacing.limits(at, long, size.rates, size.limit_senders)),
        ("7", lambda at: standing.cost(at, size.steady_s)),
        ("8", lambda at: stored(stock, size.sizes)),
        ("9", lambda at: standing.events(at, size.with_events, long, size.events)),
        ("growth", lambda at: growth.writer_alone(at, brief)),
        ("growth", lambda at: growth.over_senders(at, stock, size.senders, brief, mails)),
        ("growth", lambda at: growth.over_stored(at, stock, size.growing, brief, mails)),
        ("10", lambda at: queued.queued(at, stock, long)),
    ]


def main() -> None:
    options = _options()
    size = SHORT if options.short else FULL.scaled(options.scale)
    out = options.out or (None if options.short else HERE)
    before = report.read(out) if out else report.NO_RESULTS
    figures: list[Figure] = []
    failed = False
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as name:
        directory = Path(name)
        if shutil.disk_usage(directory).free < (needed := BYTES_A_MAIL * size.sizes[-1]):
            sys.exit(f"{name} lacks the {needed / 1e9:.0f} GB needed: set TMPDIR, or --scale")
        own = machine.measured(directory)
        print(json.dumps(own), file=sys.stderr)
        for number, (command, part) in enumerate(_chosen(options, size, directory / "stock")):
            place = directory / str(number)
            place.mkdir()
            try:
                known = [*before["figures"], *(figure.row for figure in figures)]
                for figure in _measured(part, place, command, known):
                    figures.append(figure)
            except Exception:  # what the others measure is worth having
                traceback.print_exc()
                failed = True
            shutil.rmtree(place)
            document = report.merged(before, own, figures)
            if out:
                report.write(out, document)
    if out == HERE:
        scale.tell(document)
    if not out:
        print(report.as_text(document))
    sys.exit(failed)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--short", action="store_true", help="small counts")
    names = sorted({name for name, _ in parts(SHORT, Stock(HERE, 0))})
    parser.add_argument("--only", action="append", choices=names, help="may be repeated")
    parser.add_argument("--soak", type=float, metavar="MINUTES", help="only the soak")
    parser.add_argument(
        "--scale", type=float, default=1.0, help="of the 10,000,000 stored mails, as 0.01"
    )
    parser.add_argument("--out", type=Path, help="where results.json and the rest go")
    return parser.parse_args()


def _chosen(options: argparse.Namespace, size: Size, stock: Path) -> Iterator[tuple[str, Part]]:
    """Command and part of all that is to be measured."""
    if not options.soak:
        for name, part in parts(size, Stock(stock, size.sizes[-1])):
            if not options.only or name in options.only:
                yield f"python -m tests.bench --only {name}", part
    if options.soak or (options.short and not options.only):
        minutes = options.soak or size.soak_minutes
        yield f"python -m tests.bench --soak {minutes:g}", lambda at: soak.soak(at, minutes)


def _measured(
    part: Part, place: Path, command: str, known: Sequence[Mapping[str, Any]]
) -> Iterator[Figure]:
    """A part's figures, each beside what the machine did just before and what its peers did."""
    own = machine.told(machine.measured(place))
    for found in part(place):
        limits = [own, found.machine_limit]
        if found.target:
            limits += report.peers(known, found.figure)
        figure = replace(found, machine_limit="; ".join(filter(None, limits)), command=command)
        print(
            f"{figure.figure}  {figure.name}: {number(figure.value)} {figure.unit}"
            f"  [{figure.target}] {figure.met}",
            file=sys.stderr,
            flush=True,
        )
        yield figure


if __name__ == "__main__":
    main()
