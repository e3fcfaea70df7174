"""How results are told: what is measured anew replaces what was, and all follows from the rows."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests.bench import report
from tests.bench.curves import SENDERS, STORED, curves, is_point, point
from tests.bench.plot import round_step
from tests.bench.report import Figure

MACHINE = {"cores": 2, "syncs_per_s": 1_000}
COMMAND = "python -m tests.bench"


def stored(mails: int, rate: float) -> Figure:
    return Figure(1, point("posts", STORED, mails), rate, "/s", command=f"{COMMAND} --only growth")


@pytest.mark.parametrize(
    ("target", "value", "met"),
    [(">= 10", 10, True), (">= 10", 9.9, False), ("<= 2.5", 2.6, False), ("", 1, None)],
)
def test_whether_a_target_is_met(target: str, value: float, met: bool | None) -> None:
    assert Figure(1, "posts", value, "/s", target).met is met


def test_a_row_has_the_agreed_form() -> None:
    row = Figure(1, "posts", 9_000, "/s", ">= 8000", "1,000 syncs/s", f"{COMMAND} --only 1").row
    order = ["figure", "name", "value", "unit", "target", "met", "machine_limit", "command"]
    assert list(row) == order
    assert row["met"] is True


def test_a_command_s_rows_give_way_to_its_next(tmp_path: Path) -> None:
    first = Figure(1, "posts", 1, "/s", command=f"{COMMAND} --only 1")
    other = Figure(2, "large", 2, "/s", command=f"{COMMAND} --only 2")
    soak = Figure(11, "memory", 3, "MB", command=f"{COMMAND} --soak 1")
    report.write(tmp_path, report.merged(report.NO_RESULTS, MACHINE, [soak, other, first]))
    assert [row["figure"] for row in report.read(tmp_path)["figures"]] == [1, 2, 11]
    longer = Figure(11, "memory now", 4, "MB", command=f"{COMMAND} --soak 30")
    anew = Figure(1, "posts now", 5, "/s", command=f"{COMMAND} --only 1")
    document = report.merged(report.read(tmp_path), MACHINE, [anew, longer])
    names = [row["name"] for row in document["figures"]]
    assert names == ["posts now", "large", "memory now"]
    assert set(document) == {"machine", "figures"}


def test_points_become_curves_with_formulas(tmp_path: Path) -> None:
    figures = [stored(10**power, 8_000 * 10 ** (-0.1 * power)) for power in (5, 3, 4)]
    document = report.merged(report.NO_RESULTS, MACHINE, figures)
    (curve,) = curves(document["figures"])
    assert [x for x, _ in curve.points] == [1_000, 10_000, 100_000]
    assert "8,000 /s · n^-0.100" in curve.formula()
    assert "a factor of 0.79" in curve.formula()
    report.write(tmp_path, document)
    text = (tmp_path / "results.md").read_text()
    assert curve.formula() in text
    assert f"(curves/{curve.file})" in text
    assert json.loads((tmp_path / "results.json").read_text()) == document


def test_what_senders_come_to_is_told() -> None:
    rows = [
        Figure(3, point("drain", SENDERS, n), 1 / (20e-6 + 60e-6 / n), "/s").row for n in (1, 2, 4)
    ]
    (curve,) = curves(rows)
    assert "20.0 µs + 60.0 µs ÷ n" in curve.formula()
    assert "goes towards 50,000 /s" in curve.formula()


def test_one_point_is_no_curve() -> None:
    assert is_point(stored(1_000, 5).row)
    assert curves([stored(1_000, 5).row]) == []
    assert not is_point(Figure(8, "claim with 1,000 stored mails, p99", 1, "ms").row)


def test_a_picture_holds_every_point() -> None:
    (curve,) = curves([stored(1_000, 5_000).row, stored(10_000, 0).row, stored(10**7, 9_000).row])
    picture = ET.fromstring(curve.svg())
    circles = picture.findall(".//{*}circle")
    across = [float(circle.attrib["cx"]) for circle in circles]
    down = [float(circle.attrib["cy"]) for circle in circles]
    assert across == [80, 215, 620]
    assert down[1] == 310  # nothing is at the bottom
    assert down[2] < down[0] < down[1]
    assert min(down) >= 40


@pytest.mark.parametrize(
    ("highest", "step"), [(5, 1), (10, 2), (9_001, 2_000), (12.4, 2.5), (0.3, 0.1)]
)
def test_axes_have_round_numbers(highest: float, step: float) -> None:
    assert round_step(highest) == pytest.approx(step)


def test_an_axis_has_some_height_when_all_is_nothing() -> None:
    assert round_step(0) > 0


def test_peers_stand_beside_their_figure() -> None:
    rows = [Figure(1, "peer: Postfix", 412, "/s").row, Figure(3, "peer: huey", 9, "/s").row]
    assert report.peers(rows, 1) == ["peer: Postfix: 412 /s"]
