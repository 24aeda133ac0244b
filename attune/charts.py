"""Charts of reports as SVG text: plain shapes that the page's style sheet colours for light, dark and print.

Every text that comes from data is escaped here; the results are safe to put into a page as they are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple, TypedDict

__all__ = ["Bin", "Line", "svg", "lines", "bars", "share", "whisker", "scale", "axis", "reliability", "ticks", "short"]

WIDTH, HEIGHT = 460, 240
LEFT, RIGHT, TOP, BOTTOM = 54, 14, 14, 34


class Bin(TypedDict):
    """Answers whose confidence lies in (low, high] (`metrics.calibration.reliability`)."""

    low: float
    high: float
    n: int
    confidence: float
    accuracy: float


class Line(NamedTuple):
    """One curve: points in order of x, the CSS class of its colour, and whether single points are marked."""

    name: str
    points: list[tuple[float, float]]
    kind: str = "c1"
    dots: bool = False


def short(value: float) -> str:
    """A number for an axis: 1200 -> 1.2k, 0.00012 -> 1.2e-4."""
    if value == 0:
        return "0"
    size = abs(value)
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if size >= unit:
            return f"{value / unit:.3g}{letter}"
    if size < 1e-3:
        digits, exponent = f"{value:.1e}".split("e")
        return f"{digits.removesuffix('.0')}e{int(exponent)}"
    return f"{value:.3g}"


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers inside [low, high]: multiples of 1, 2 or 5 times a power of ten."""
    if not high > low:
        return [low]
    power = 10 ** math.floor(math.log10((high - low) / most))
    step = next(power * factor for factor in (1, 2, 5, 10, 20) if (high - low) / (power * factor) <= most)
    first = math.ceil(low / step - 1e-9)
    return [round(number * step, 12) for number in range(first, math.floor(high / step + 1e-9) + 1)]


def lines(
    curves: Sequence[Line], *, title: str, mark: float | None = None, zero: bool = False, over: str = "step"
) -> str:
    """A chart of curves over steps (or what `over` names); `mark` draws a dashed upright line at the best one, `zero`
    starts y at 0."""
    curves = [line for line in curves if line.points]
    if not curves:
        return ""
    xs = [x for line in curves for x, _ in line.points]
    ys = [y for line in curves for _, y in line.points]
    left, right = min(xs), max(xs)
    bottom, top = min([*ys, 0.0] if zero else ys), max(ys)
    room = (top - bottom) * 0.06 or abs(top) * 0.1 or 1.0
    bottom, top = bottom if zero and bottom == 0 else bottom - room, top + room
    right = right if right > left else left + 1

    def x_at(x: float) -> float:
        return round(LEFT + (x - left) / (right - left) * (WIDTH - LEFT - RIGHT), 1)

    def y_at(y: float) -> float:
        return round(HEIGHT - BOTTOM - (y - bottom) / (top - bottom) * (HEIGHT - TOP - BOTTOM), 1)

    parts = []
    for y in ticks(bottom, top):
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y_at(y)}" y2="{y_at(y)}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y_at(y) + 4}" text-anchor="end">{short(y)}</text>')
    for x in ticks(left, right):
        parts.append(f'<text x="{x_at(x)}" y="{HEIGHT - BOTTOM + 17}" text-anchor="middle">{short(x)}</text>')
    parts.append(f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 2}" text-anchor="end">{over}</text>')
    if mark is not None and left <= mark <= right:
        parts.append(f'<line class="mark" x1="{x_at(mark)}" x2="{x_at(mark)}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
    for line in curves:
        points = [(x_at(x), y_at(y)) for x, y in _thinned(line.points)]
        if len(points) > 1:
            path = " ".join(f"{x},{y}" for x, y in points)
            parts.append(f'<polyline class="line {line.kind}" points="{path}"/>')
        if line.dots or len(points) == 1:
            parts += [f'<circle class="dot {line.kind}" cx="{x}" cy="{y}" r="3"/>' for x, y in points]
    return svg("".join(parts), title)


def _thinned(points: list[tuple[float, float]], most: int = 400) -> list[tuple[float, float]]:
    """At most about `most` points: the lowest and the highest of each stretch, so that no spike is lost."""
    if len(points) <= most:
        return points
    length = math.ceil(2 * len(points) / most)
    kept = []
    for start in range(0, len(points), length):
        stretch = points[start : start + length]
        kept += sorted({min(stretch, key=lambda point: point[1]), max(stretch, key=lambda point: point[1])})
    return kept


def svg(inside: str, title: str, width: int = WIDTH, height: int = HEIGHT) -> str:
    return f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}">{inside}</svg>'


def scale(spans: Sequence[tuple[float, float]], inside: tuple[float, float] | None = None) -> tuple[float, float]:
    """Common ends for whiskers, a little wider than all of them, within `inside`: the range the figure can take."""
    low, high = min(low for low, _ in spans), max(high for _, high in spans)
    room = (high - low) * 0.08 or abs(high) * 0.1 or 0.1
    low, high = low - room, high + room
    return (max(low, inside[0]), min(high, inside[1])) if inside else (low, high)


def whisker(
    value: float, low: float, high: float, ends: tuple[float, float], *, kind: str = "c2", line: float | None = None
) -> str:
    """One row of a forest plot, as wide as its place: interval, point, and a thin upright `line` to compare with."""

    def at(x: float) -> str:
        return f"{max(0.0, min(100.0, 100 * (x - ends[0]) / (ends[1] - ends[0]))):.2f}%"

    against = "" if line is None else f'<line class="mark" x1="{at(line)}" x2="{at(line)}" y1="0" y2="28"/>'
    caps = "".join(f'<line class="whisker {kind}" x1="{at(x)}" x2="{at(x)}" y1="9" y2="19"/>' for x in (low, high))
    return (
        f'<svg class="forest" width="100%" height="28" role="img" '
        f'aria-label="{value:.3f}, {low:.3f} to {high:.3f}">{against}'
        f'<line class="whisker {kind}" x1="{at(low)}" x2="{at(high)}" y1="14" y2="14"/>{caps}'
        f'<circle class="dot {kind}" cx="{at(value)}" cy="14" r="5"/></svg>'
    )


def axis(ends: tuple[float, float]) -> str:
    """The numbers below the rows of a forest plot."""
    parts = ['<line class="grid" x1="0%" x2="100%" y1="1" y2="1"/>']
    for x in ticks(*ends):
        place = 100 * (x - ends[0]) / (ends[1] - ends[0])
        anchor = "start" if place < 6 else "end" if place > 94 else "middle"
        parts.append(f'<line class="grid" x1="{place:.2f}%" x2="{place:.2f}%" y1="1" y2="6"/>')
        parts.append(f'<text x="{place:.2f}%" y="19" text-anchor="{anchor}">{short(x)}</text>')
    return f'<svg class="forest axis" width="100%" height="24" aria-hidden="true">{"".join(parts)}</svg>'


def reliability(bins: Sequence[Bin], *, title: str) -> str:
    """Accuracy against confidence: bars reach the diagonal where confidence can be believed; below, how many rows."""
    side, left, top, strip = 260, 46, 12, 46
    right, base = left + side, top + side

    def x_at(x: float) -> float:
        return round(left + x * side, 1)

    def y_at(y: float) -> float:
        return round(base - y * side, 1)

    parts = []
    for tick in (0, 0.25, 0.5, 0.75, 1):
        parts.append(f'<line class="grid" x1="{left}" x2="{right}" y1="{y_at(tick)}" y2="{y_at(tick)}"/>')
        parts.append(f'<text x="{left - 8}" y="{y_at(tick) + 4}" text-anchor="end">{tick:g}</text>')
        parts.append(f'<text x="{x_at(tick)}" y="{base + strip + 17}" text-anchor="middle">{tick:g}</text>')
    most = max(one["n"] for one in bins)
    for one in bins:
        x, width = x_at(one["low"]) + 1, round((one["high"] - one["low"]) * side - 2, 1)
        bar, count = round(one["accuracy"] * side, 1), round(max(1, one["n"] / most * (strip - 8)), 1)
        words = f"confidence {one['confidence']:.3f}, accuracy {one['accuracy']:.3f}, {one['n']} rows"
        parts.append(
            f'<g><title>{words}</title><rect class="bar c1" x="{x}" y="{base - bar}" width="{width}" height="{bar}"/>'
            f'<rect class="bar c3" x="{x}" y="{base + strip - count}" width="{width}" height="{count}"/></g>'
        )
    parts.append(f'<line class="mark" x1="{left}" y1="{base}" x2="{right}" y2="{top}"/>')
    parts.append(f'<line class="grid" x1="{left}" x2="{right}" y1="{base + strip}" y2="{base + strip}"/>')
    parts.append(f'<text x="{left - 8}" y="{base + strip - 4}" text-anchor="end">rows</text>')
    parts.append(f'<text x="{right}" y="{base + strip + 33}" text-anchor="end">confidence</text>')
    return svg("".join(parts), title, right + 14, base + strip + 38)


def bars(counts: Sequence[int], width: float, *, title: str, unit: str, marks: Sequence[float] = ()) -> str:
    """A histogram of even bins that begin at 0; `marks` draws dashed upright lines. The last bin holds the rest."""
    if not counts:
        return ""
    right, top = len(counts) * width, max(counts) * 1.06 or 1

    def x_at(x: float) -> float:
        return round(LEFT + x / right * (WIDTH - LEFT - RIGHT), 1)

    def y_at(y: float) -> float:
        return round(HEIGHT - BOTTOM - y / top * (HEIGHT - TOP - BOTTOM), 1)

    parts = []
    for y in ticks(0, top):
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y_at(y)}" y2="{y_at(y)}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y_at(y) + 4}" text-anchor="end">{short(y)}</text>')
    for x in ticks(0, right):
        parts.append(f'<text x="{x_at(x)}" y="{HEIGHT - BOTTOM + 17}" text-anchor="middle">{short(x)}</text>')
    parts.append(f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 2}" text-anchor="end">{escape(unit)}</text>')
    for at, count in enumerate(counts):
        left, end = x_at(at * width), x_at((at + 1) * width)
        last = "" if at + 1 < len(counts) else " and more"
        words = f"{short(at * width)} to {short((at + 1) * width - 1)}{last}: {count:,} rows"
        parts.append(
            f'<g><title>{words}</title><rect class="bar c1" x="{left}" y="{y_at(count)}" '
            f'width="{max(0.5, round(end - left - 1, 1))}" height="{round(HEIGHT - BOTTOM - y_at(count), 1)}"/></g>'
        )
    for mark in marks:
        if 0 < mark < right:
            parts.append(f'<line class="mark" x1="{x_at(mark)}" x2="{x_at(mark)}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
            parts.append(f'<text x="{x_at(mark) + 4}" y="{TOP + 10}">{short(mark)}</text>')
    return svg("".join(parts), title)


def share(value: float, *, kind: str = "c1", width: int = 90) -> str:
    """A small bar for a table cell: how much of 1."""
    full = max(0.0, min(1.0, value)) * width
    return (
        f'<svg class="share" width="{width}" height="8" aria-hidden="true">'
        f'<rect class="wash" width="{width}" height="8"/>'
        f'<rect class="bar {kind}" width="{full:.1f}" height="8"/></svg>'
    )
