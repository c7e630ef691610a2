"""What a curve comes to: the table, the picture, and the verdict in words."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any

from apercu.checkpoint import write_atomically
from apercu.curve.chart import draw
from apercu.curve.methods import METHODS
from apercu.curve.run import FILE, Curve, Figure, Key
from apercu.curve.verdict import by_seed, compare, forecast, in_words, mean
from apercu.errors import ApercuError
from apercu.pages.words import listed
from apercu.study import duration, many


def conclude(curve: Curve, plan: Sequence[Key]) -> dict[str, Any]:
    """Write `curve.csv` and `curve.svg` of the figures that are there of this plan, and say what they mean.

    Raises:
        ApercuError: there are none yet.
    """
    figures = [curve.figures[key] for key in plan if key in curve.figures]
    if not figures:
        long = f" (a training takes about {duration(max(curve.too_long.values()))})" if curve.too_long else ""
        raise ApercuError(
            f"no figure was measured in this time{long}: give more --minutes, or a shorter training with --epochs or "
            "--minutes-per-run"
        )
    test = len(curve.data.test)
    found = forecast(figures, test)
    write_atomically(curve.folder / "curve.csv", _as_csv(figures).encode())
    title = f"Accuracy on {test:,} test images of {curve.data.origin}"
    write_atomically(curve.folder / "curve.svg", draw(figures, title).encode())
    return {
        "images": curve.data.origin,
        "test_images": test,
        "classes": curve.classes,
        "table": table(figures),
        "comparisons": [asdict(comparison) for comparison in compare(figures)],
        "more_labels": None if found is None else asdict(found),
        "verdict": [*in_words(figures, test, curve.classes), *_of_codes(curve)],
        "missing": len(curve.missing(plan)),
        "files": [str(curve.folder / name) for name in (FILE, "curve.csv", "curve.svg")],
    }


def _of_codes(curve: Curve) -> list[str]:
    """What must be said of a curve that was measured on codes."""
    if curve.made is None:
        return []
    said = [f"Left out, since they need the images themselves: {listed(curve.left_out)}."]
    learnt = curve.made.recipe.data.get("labelled", 0) if "label" in curve.made.network.heads else 0
    if learnt:
        said.append(
            f"The model that made the codes learnt from {many(learnt, 'label')} itself, so "
            "these figures are higher than so few labels give; codes of a model without labels are a fair measure."
        )
    return said


def table(figures: Sequence[Figure]) -> list[dict[str, Any]]:
    """A record for each number of labels and method: mean accuracy, half of its 95 % interval over seeds, how many."""
    labels = {figure.per_class: figure.labels for figure in figures}
    rows = []
    for per_class in sorted(labels):
        for method in METHODS:
            if values := by_seed(figures, method, per_class):
                average = mean(list(values.values()))
                about = {"labels_per_class": per_class, "labels": labels[per_class], "method": method}
                rows.append(about | {"accuracy": average.value, "half_width": average.half, "seeds": average.count})
    return rows


def _as_csv(figures: Sequence[Figure]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(Figure)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(figure) for figure in figures)
    return text.getvalue()
