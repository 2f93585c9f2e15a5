"""Line charts as SVG. Colours come from the page: line i is of the classes `s` and `s` with i modulo COLOURS."""

import html
import math
from collections.abc import Sequence
from typing import NamedTuple

COLOURS = 8  # of the page's palette; beyond them lines are dashed
POINTS = 1000  # of a line at most: more can't be seen
WIDTH, HEIGHT = 460, 260
LEFT, RIGHT, TOP, BOTTOM = 54, 12, 10, 34


class Line(NamedTuple):
    name: str
    points: Sequence[tuple[float, float]]


def draw(lines: list[Line], what: str, level: float | None = None) -> str:
    """Lines against the step, as an SVG element; `level` is a dashed line across, such as that of guessing."""
    shown = [_thinned([p for p in line.points if math.isfinite(p[1])]) for line in lines]
    xs = [x for points in shown for x, _ in points]
    ys = [y for points in shown for _, y in points] + ([] if level is None else [level])
    if not xs:
        return f'<p class="none">no record of {html.escape(what)} yet</p>'
    x_ticks, y_ticks = ticks(min(0, *xs), max(xs)), ticks(min(ys), max(ys))
    x_low, x_high = min(0, *xs), max(*xs, x_ticks[-1])
    y_low, y_high = y_ticks[0], y_ticks[-1]

    def at(x: float, y: float) -> tuple[float, float]:
        across = (x - x_low) / ((x_high - x_low) or 1)
        up = (y - y_low) / ((y_high - y_low) or 1)
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html.escape(what)} against the step">']
    for tick in y_ticks:
        x, y = at(x_low, tick)
        parts.append(f'<line class="grid" x1="{x:.1f}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{x - 6:.1f}" y="{y + 3.5:.1f}" text-anchor="end">{number(tick)}</text>')
    for tick in x_ticks:
        x, y = at(tick, y_low)
        parts.append(f'<text class="tick" x="{x:.1f}" y="{y + 15:.1f}" text-anchor="middle">{number(tick)}</text>')
    parts.append(f'<text class="tick" x="{WIDTH - RIGHT}" y="{HEIGHT - 4}" text-anchor="end">step</text>')
    if level is not None:
        (x, y), (end, _) = at(x_low, level), at(x_high, level)
        parts.append(f'<line class="level" x1="{x:.1f}" y1="{y:.1f}" x2="{end:.1f}" y2="{y:.1f}"/>')
    for place, (line, points) in enumerate(zip(lines, shown, strict=True)):
        if not points:
            continue
        style = f"s s{place % COLOURS}{' dashed' if place // COLOURS % 2 else ''}"
        path = " ".join("{:.1f},{:.1f}".format(*at(*point)) for point in points)
        title = f"<title>{html.escape(line.name)}</title>"
        if len(points) == 1:
            x, y = at(*points[0])
            parts.append(f'<circle class="{style}" cx="{x:.1f}" cy="{y:.1f}" r="2.5">{title}</circle>')
        else:
            parts.append(f'<polyline class="{style}" points="{path}">{title}</polyline>')
    return "\n".join([*parts, "</svg>"])


def ticks(low: float, high: float) -> list[float]:
    """Some four to seven round numbers, the first at or below `low` and the last at or above `high`."""
    span = (high - low) or abs(high) or 1.0
    power = 10 ** math.floor(math.log10(span / 4))
    width = next(width * power for width in (1, 2, 2.5, 5, 10) if width * power >= span / 5)
    first, last = math.floor(low / width + 1e-9), math.ceil(high / width - 1e-9)
    return [i * width for i in range(first, max(last, first + 1) + 1)]


def number(value: float) -> str:
    if value and (abs(value) >= 1e6 or abs(value) < 1e-3):
        return f"{value:.2g}".replace("e-0", "e-").replace("e+0", "e")
    return f"{value:,.6g}" if abs(value) < 1000 else f"{value:,.0f}"


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    stride = -(-len(points) // POINTS)
    return points if stride <= 1 else [*points[:-1:stride], points[-1]]
