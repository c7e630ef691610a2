"""How well pixels are told apart: overlap of what is said with what was drawn, for each class.

IoU = hits / (said + drawn − hits),  Dice = 2·hits / (said + drawn)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

BACKGROUND = "background"
Counts = NDArray[np.int64]


def confusion(drawn: NDArray[Any], said: NDArray[Any], classes: int) -> Counts:
    """Pixels by what was drawn (row) and what is said (column), (classes, classes); unknown ones are left out."""
    known = drawn >= 0
    places = drawn[known].astype(np.int64) * classes + said[known].astype(np.int64)
    return np.bincount(places, minlength=classes**2).reshape(classes, classes)


def measured(counts: Counts, names: Sequence[str]) -> dict[str, Any]:
    """IoU and Dice of the background and each class, their means, and the share of pixels that are right.

    `mean_iou` and `mean_dice` are over the classes without the background; `mean_iou_all` is with it. A class that was
    neither drawn nor said has no figure, and takes no part in a mean.
    """
    hits, drawn, said = counts.diagonal(), counts.sum(1), counts.sum(0)
    rows: dict[str, dict[str, Any]] = {}
    for k, name in enumerate((BACKGROUND, *names)):
        union = int(drawn[k] + said[k] - hits[k])
        iou = float(hits[k] / union) if union else None
        dice = float(2 * hits[k] / (drawn[k] + said[k])) if union else None
        rows[name] = {"iou": iou, "dice": dice, "pixels": int(drawn[k])}
    marked = [row for name, row in rows.items() if name != BACKGROUND]
    return {
        "mean_iou": _mean(marked, "iou"),
        "mean_dice": _mean(marked, "dice"),
        "mean_iou_all": _mean(list(rows.values()), "iou"),
        "pixel_accuracy": float(hits.sum() / counts.sum()) if counts.sum() else None,
        "per_class": rows,
    }


def _mean(rows: list[dict[str, Any]], figure: str) -> float | None:
    values = [row[figure] for row in rows if row[figure] is not None]
    return float(np.mean(values)) if values else None
