"""A curve as SVG: points, the formula fitted to them as a line, axes with round numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from html import escape

WIDTH, HEIGHT = 680, 360
LEFT, RIGHT, TOP, BOTTOM = 80, 620, 40, 310
STEPS = 60
"""Pieces the fitted line is drawn with."""

STYLE = """
svg { background: #fff; font: 13px sans-serif }
.grid { stroke: #ddd }
.fit { fill: none; stroke: #888; stroke-dasharray: 5 4 }
.measured { fill: none; stroke: #06c; stroke-width: 2 }
circle { fill: #06c }
.title { font-weight: bold }
"""


def svg(
    title: str,
    x_name: str,
    y_name: str,
    points: Sequence[tuple[float, float]],
    fitted: Callable[[float], float],
    *,
    logarithmic: bool,
) -> str:
    """The picture; `logarithmic` is the x axis, the y axis begins at 0."""
    first, last = points[0][0], points[-1][0]
    scale = math.log10 if logarithmic else float
    span = (scale(last) - scale(first)) or 1.0
    between = [first + (last - first) * n / STEPS for n in range(STEPS + 1)]
    if logarithmic:
        between = [first * (last / first) ** (n / STEPS) for n in range(STEPS + 1)]
    step = round_step(max(max(y for _, y in points), *map(fitted, between)))
    highest = step * 5

    def place(x: float, y: float) -> tuple[float, float]:
        across = LEFT + (RIGHT - LEFT) * (scale(x) - scale(first)) / span
        return across, BOTTOM - (BOTTOM - TOP) * max(0.0, y) / highest

    def path(kind: str, along: Sequence[tuple[float, float]]) -> str:
        corners = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in along))
        return f'<polyline class="{kind}" points="{corners}"/>'

    def parts() -> Iterator[str]:
        yield f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}">'
        yield f"<style>{STYLE}</style>"
        yield f'<text class="title" x="{LEFT}" y="22">{escape(title)}</text>'
        for number in range(6):
            y = place(first, step * number)[1]
            yield f'<line class="grid" x1="{LEFT}" x2="{RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            label = f"{step * number:,.6g}"
            yield f'<text text-anchor="end" x="{LEFT - 8}" y="{y + 4:.1f}">{label}</text>'
        for x, _ in points:
            across = place(x, 0)[0]
            yield f'<text text-anchor="middle" x="{across:.1f}" y="{BOTTOM + 18}">{x:,.10g}</text>'
        yield f'<text text-anchor="end" x="{RIGHT}" y="{BOTTOM + 38}">{escape(x_name)}</text>'
        yield f'<text text-anchor="end" x="{LEFT - 8}" y="22">{escape(y_name)}</text>'
        yield path("fit", [(x, fitted(x)) for x in between])
        yield path("measured", points)
        for x, y in (place(*point) for point in points):
            yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4"/>'
        yield "</svg>"

    return "\n".join(parts()) + "\n"


def round_step(highest: float) -> float:
    """A round number five times which is not below the highest value."""
    least = max(highest, 1e-9) / 5
    power = 10.0 ** math.floor(math.log10(least))
    return next(power * digit for digit in (1, 2, 2.5, 5, 10) if power * digit >= least * 0.999999)
