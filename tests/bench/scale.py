"""The README's paragraph on scale: what was measured, and from where on to take something else."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tests.bench.growth import WRITERS_END, WRITERS_TIME

README: Final = Path(__file__).parent.parent.parent / "README.md"
_PARAGRAPH: Final = re.compile(r"(?<=<!-- measured -->\n).*?(?=<!-- /measured -->)", re.DOTALL)


def statement(document: Mapping[str, Any]) -> str:
    """What the results say, in the README's words."""
    machine, rows = document["machine"], document["figures"]

    def most(figure: int, name: str) -> float:
        values: list[float] = [
            row["value"] for row in rows if row["figure"] == figure and re.match(name, row["name"])
        ]
        return max(values)

    stored = max(map(_stored_mails, rows))
    singles = most(1, "durable single posts, no authentication")
    large = most(2, "one post of 10,000 recipients")
    drained = most(3, r"drain of [\d,]+ queued mails")
    through = most(4, "from the post to `sent` on disk")
    looks_ms = most(8, f".*, p99, stored mails: {stored:,}$")
    writer_us = most(4, re.escape(WRITERS_TIME))
    writers_end = most(4, re.escape(WRITERS_END))
    words = f"""\
Measured on {machine["cores"]} cores ({machine["cpu"]}, {machine["syncs_per_s"]:,} syncs/s), load
generators included: {singles:,.0f} single mails accepted a second; {large:,.0f} recipients a second
in posts of 10,000; {drained:,.0f} queued mails a second handed over and recorded; {through:,.0f} a
second all the way from the post to `sent`. With {stored:,} mails kept, the slowest of claim, topic,
mail by id and list by recipient took {looks_ms:.2g} ms (99 of 100). A mail takes {writer_us:.0f} µs
of SQLite's one writer, so that no number of cores or senders gets beyond {writers_end:,.0f} a
second. Move on, to a queue on a database server, when you need more than half of the
{through:,.0f} a second for hours on end, keep more than {stored:,} mails, or mail must go on
while this one machine is down.
`python -m tests.bench` measures yours; see [all results](tests/bench/results.md)."""
    return "\n".join(textwrap.wrap(words, 105, break_on_hyphens=False, break_long_words=False))


def _stored_mails(row: Mapping[str, Any]) -> int:
    match = re.search(r", stored mails: ([\d,]+)$", row["name"])
    return int(match[1].replace(",", "")) if match else 0


def tell(document: Mapping[str, Any], readme: Path = README) -> None:
    """Write it into the README."""
    text = readme.read_text()
    readme.write_text(_PARAGRAPH.sub(lambda _: f"{statement(document)}\n", text))
