"""Measure mailer beside the bare machine: `python -m tests.bench [--short] [--only N] [--out DIR]`.

Needs `wrk` (Debian's package). Without --out nothing is written but the table on standard output.
What is measured is also checked: all mail is there, counters equal a recount. Only that can fail.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.bench import accepting, draining, machine, pacing, report, standing
from tests.bench.report import Figure

Part = Callable[[Path, dict[str, Any]], Iterator[Figure]]


def parts(*, short: bool) -> list[tuple[int, Part]]:
    """What is measured: the figure's number and how; `short` is for a first look and for CI."""
    seconds = 3 if short else 10
    sizes = [10_000, 100_000] if short else [10_000, 1_000_000, 10_000_000]
    rates, senders = ([100], [2]) if short else ([14, 100, 500], [1, 2, 4])
    return [
        (1, lambda at, own: accepting.singles(at, own, seconds)),
        (2, lambda at, own: accepting.large(at, own, 5 if short else 20)),
        (3, lambda at, own: draining.drain(at, own, 20_000 if short else 200_000)),
        (3, lambda at, own: draining.drain_ses(at, own, 5_000 if short else 50_000)),
        (4, lambda at, own: draining.through(at, own, seconds)),
        (5, lambda at, own: pacing.waits(at, own, seconds)),
        (6, lambda at, own: pacing.limits(at, own, 3 if short else 12, rates, senders)),
        (7, lambda at, own: standing.cost(at, own, 5 if short else 30)),
        (8, lambda at, own: standing.stored(at, own, sizes)),
        (9, lambda at, own: standing.events(at, own, 20_000 if short else 1_000_000, seconds)),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="small counts")
    parser.add_argument("--only", type=int, action="append", help="the number of a figure")
    parser.add_argument("--out", type=Path, help="where results.md and results.json go")
    options = parser.parse_args()
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as name:
        directory = Path(name)
        own = machine.measured(directory)
        print(json.dumps(own), file=sys.stderr)
        for number, (figure, part) in enumerate(parts(short=options.short)):
            if options.only and figure not in options.only:
                continue
            place = directory / str(number)
            place.mkdir()
            for found in part(place, own):
                figures.append(found)
                print(
                    f"{found.figure}  {found.name}: {found.value:,.4g} {found.unit}"
                    f"  [{found.target}] {found.met}",
                    file=sys.stderr,
                )
    if options.out:
        report.write(options.out, own, figures)
    else:
        print(report.as_text(own, figures))


if __name__ == "__main__":
    main()
