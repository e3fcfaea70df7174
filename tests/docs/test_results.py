"""What is said of speed and scale is what was measured."""

from __future__ import annotations

from pathlib import Path

from tests.bench import report, scale
from tests.bench.curves import curves

BENCH = Path(__file__).parent.parent / "bench"
RESULTS = report.read(BENCH)


def test_the_readme_says_what_the_results_say() -> None:
    expected = scale.statement(RESULTS)
    assert expected in scale.README.read_text(), f"the README should hold:\n{expected}"


def test_other_results_would_be_missed() -> None:
    """The control: one figure changed, and the README is wrong."""
    rows = [{**row, "value": row["value"] * 2} for row in RESULTS["figures"]]
    assert scale.statement({**RESULTS, "figures": rows}) not in scale.README.read_text()


def test_tables_and_curves_follow_from_the_rows() -> None:
    assert (BENCH / "results.md").read_text() == report.as_text(RESULTS)
    drawn = {path.name: path.read_text() for path in (BENCH / "curves").glob("*.svg")}
    assert drawn == {curve.file: curve.svg() for curve in curves(RESULTS["figures"])}
