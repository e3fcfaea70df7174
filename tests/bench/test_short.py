"""The benchmark runs, small, and what it measures is done right; how fast it is decides nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench import report

ROOT = Path(__file__).parent.parent.parent

pytestmark = pytest.mark.alone


@pytest.mark.timeout(600)
def test_every_figure_is_measured_and_checked(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench", "--short", "--out", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    document = json.loads((tmp_path / "results.json").read_text())
    assert {row["figure"] for row in document["figures"]} == set(range(1, 12))
    assert all("syncs/s" in row["machine_limit"] for row in document["figures"])
    assert (tmp_path / "results.md").read_text() == report.as_text(document)
    assert list((tmp_path / "curves").glob("*.svg"))
