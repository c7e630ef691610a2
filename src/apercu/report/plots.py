"""Charts as geometry: scales, ticks and paths; the templates draw them as SVG in the colours of the page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from apercu.pages.words import brief

WIDTH, HEIGHT = 264, 132

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Tick:
    """A mark on an axis: where, in the chart's own units, and what it says."""

    at: float
    text: str


@dataclass(frozen=True)
class Line:
    """One line of a chart: its path, its dots where it has few points, its last value in words."""

    name: str
    path: str
    dots: list[tuple[float, float]]
    last: str


@dataclass(frozen=True)
class Chart:
    """Lines over a common axis; `summary` says in words what they show."""

    title: str
    unit: str
    lines: list[Line]
    x_ticks: list[Tick]
    x_end: str
    y_ticks: list[Tick]
    summary: str
    width: int = WIDTH
    height: int = HEIGHT


@dataclass(frozen=True)
class Bars:
    """One path of bars, largest first; `reference` is the height of a line that is said in words beside it."""

    path: str
    y_ticks: list[Tick]
    count: int
    reference: float | None
    summary: str
    width: int = 440
    height: int = 130


def short(value: float) -> str:
    """A number as an axis says it: 12,000, 350, 0.25, 3e-05."""
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 1e7 or size < 1e-3:
        return f"{value:.0e}".replace("-", "−")
    return f"{value:,.4g}".replace("-", "−") if size < 1000 else f"{value:,.0f}".replace("-", "−")


def nice_ticks(low: float, high: float, fewest: int = 3) -> list[float]:
    """Round numbers in [low, high], as few as there are at least `fewest` of."""
    power = 10.0 ** math.floor(math.log10(high - low))
    ticks: list[float] = []
    for factor in (5, 2.5, 2, 1, 0.5, 0.25, 0.2, 0.1):
        step = power * factor
        ticks = [n * step for n in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]
        if len(ticks) >= fewest:
            break
    return ticks


def chart(
    title: str,
    unit: str,
    lines: Mapping[str, Points],
    x_name: str,
    floor: float | None = None,
    top: float | None = None,
) -> Chart:
    """Draw lines of (x, y) points; the axis holds all but the first tenth of each, which may leave it at the top.

    `floor` and `top`: values that the axis must reach.
    """
    settled = [y for points in lines.values() for _, y in points[len(points) // 10 :]]
    low = min([y for points in lines.values() for _, y in points] + ([] if floor is None else [floor]))
    high = max(settled + ([] if top is None else [top]))
    if not high > low:
        low, high = low - 0.5 * (abs(low) or 1), high + 0.5 * (abs(high) or 1)
    left, right = 0.0, max(x for points in lines.values() for x, _ in points)
    x_scale, y_scale = WIDTH / ((right - left) or 1), HEIGHT / (high - low)

    def place(point: tuple[float, float]) -> tuple[float, float]:
        return round((point[0] - left) * x_scale, 1), round((high - point[1]) * y_scale, 1)

    drawn = []
    for name, points in lines.items():
        placed = [place(point) for point in points]
        path = "M" + "L".join(f"{x},{y}" for x, y in placed)
        drawn.append(Line(name, path, placed if len(placed) < 4 else placed[-1:], brief(points[-1][1])))
    said = "; ".join(f"{name} {short(points[0][1])} to {short(points[-1][1])}" for name, points in lines.items())
    x_end = f"{x_name} {short(right)}"
    whole = [x for x in nice_ticks(left, right, 4) if x == int(x) and place((x, low))[0] < WIDTH - 60]
    return Chart(
        title,
        unit,
        drawn,
        [Tick(place((value, low))[0], short(value)) for value in whole],
        x_end,
        [Tick(place((left, value))[1], short(value)) for value in nice_ticks(low, high)],
        f"{title}, {unit}, to {x_name} {short(right)}: {said}.",
    )


def bars(values: Sequence[float], quantity: str, reference: float | None = None) -> Bars:
    """Bars of the values, largest first, from zero."""
    ordered = sorted(values, reverse=True)
    width, height = Bars.width, Bars.height
    high = max(max(ordered), reference or 0.0) or 1.0
    step = width / len(ordered)
    gap = min(2.0, 0.2 * step) if step > 2 else 0.0
    path = "".join(
        f"M{number * step:.2f},{height}V{height - height * max(0.0, value) / high:.1f}h{step - gap:.2f}V{height}z"
        for number, value in enumerate(ordered)
    )
    middle = ordered[len(ordered) // 2]
    return Bars(
        path,
        [Tick(round(height - height * value / high, 1), short(value)) for value in nice_ticks(0, high)],
        len(ordered),
        None if reference is None else round(height - height * reference / high, 1),
        f"{quantity}, largest first: {len(ordered)} bars from {short(ordered[0])} over {short(middle)} in the middle "
        f"to {short(ordered[-1])}.",
    )
