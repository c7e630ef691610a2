"""The curve as a picture: accuracy over labels per class on a logarithmic axis, an SVG file that stands alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from apercu.curve.methods import METHODS
from apercu.curve.run import Figure
from apercu.curve.verdict import by_seed, mean, share
from apercu.report.plots import Tick, nice_ticks, short

WIDTH, HEIGHT = 480, 300
APART = 15  # between two names at the end of lines
COLOURS = {  # after Okabe and Ito, "Color universal design" (2008), dark enough for text
    "joint": "#0072b2",
    "finetune": "#00805d",
    "probe": "#8f6b00",
    "cnn": "#c65700",
    "pca": "#b0568a",
    "pixels": "#6b6b6b",
}


@dataclass(frozen=True)
class Line:
    """One method: its path, its means, their intervals as (x, low, high), and its name at height `name_at`."""

    name: str
    colour: str
    ours: bool
    path: str
    dots: list[tuple[float, float]]
    intervals: list[tuple[float, float, float]]
    name_at: float


def draw(figures: Sequence[Figure], title: str) -> str:
    """The SVG of these figures."""
    counts = sorted({figure.per_class for figure in figures})
    names = [name for name in METHODS if any(figure.method == name for figure in figures)]
    means = {
        (name, count): mean(list(values.values()))
        for name in names
        for count in counts
        if (values := by_seed(figures, name, count))
    }
    low, high = min(m.value for m in means.values()), max(m.value for m in means.values())
    low, high = max(0.0, low - 0.02), min(1.0, high + 0.02)
    first, span = math.log(counts[0]), math.log(counts[-1] / counts[0]) or 1.0

    def across(count: int) -> float:
        return WIDTH * (math.log(count) - first) / span

    def down(accuracy: float) -> float:
        return round(float(HEIGHT * (high - np.clip(accuracy, low, high)) / (high - low)), 1)

    ends = {name: down(means[name, max(c for n, c in means if n == name)].value) for name in names}
    places = spread(ends)
    lines = []
    for number, name in enumerate(names):
        shift = 2.5 * (number - (len(names) - 1) / 2)  # so that intervals do not cover each other
        own = [(round(across(c) + shift, 1), means[name, c]) for n, c in means if n == name]
        dots = [(x, down(m.value)) for x, m in own]
        intervals = [(x, down(m.value - m.half), down(m.value + m.half)) for x, m in own if m.half is not None]
        path = "M" + "L".join(f"{x},{y}" for x, y in dots)
        method = METHODS[name]
        lines.append(Line(method.name, COLOURS[name], method.ours, path, dots, intervals, places[name]))
    said = "; ".join(
        f"{METHODS[name].name} " + ", ".join(f"{share(means[n, c].value)} at {c}" for n, c in means if n == name)
        for name in names
    )
    environment = Environment(loader=PackageLoader("apercu"), autoescape=True, undefined=StrictUndefined)
    return environment.get_template("curve.svg").render(
        title=title,
        summary=said,
        width=WIDTH,
        height=HEIGHT,
        lines=lines,
        x_ticks=[Tick(round(across(count), 1), str(count)) for count in counts],
        y_ticks=[Tick(down(value / 100), short(value)) for value in nice_ticks(100 * low, 100 * high)],
    )


def spread(places: dict[str, float]) -> dict[str, float]:
    """Heights of names, moved down as little as keeps them apart, and up again where they leave the picture."""
    order = sorted(places, key=lambda name: places[name])
    moved: dict[str, float] = {}
    floor = -math.inf
    for name in order:
        floor = max(places[name], floor + APART)
        moved[name] = floor
    ceiling = float(HEIGHT)
    for name in reversed(order):
        moved[name] = min(moved[name], ceiling)
        ceiling = moved[name] - APART
    return moved
