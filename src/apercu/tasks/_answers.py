"""The answer to each image as a record, and all of them as a CSV table."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from apercu.tasks._calibration import Floats, Promise

COLUMNS = ("set", "novelty", "novel", "abstain")


def rows(
    ids: Sequence[str], classes: Sequence[str], p: Floats, promised: Promise, p_known: Floats | None, novel: float
) -> list[dict[str, Any]]:
    """What is said of each image, from the probabilities (B, classes) and the p-values of being known (B,).

    "set" begins with the most probable class; "novelty" is the share of known images that are less unusual, None where
    there is nothing to compare with.
    """
    sets, abstains = promised.sets(p), promised.abstains(p)
    answers = []
    for i, order in enumerate(np.argsort(-p, axis=1, kind="stable").tolist()):
        answers.append(
            {
                "id": ids[i],
                "label": classes[order[0]],
                "probability": float(p[i, order[0]]),
                "set": [classes[k] for k in order if sets[i, k]],
                "novelty": None if p_known is None else float(1 - p_known[i]),
                "novel": p_known is not None and bool(p_known[i] <= novel),
                "abstain": bool(abstains[i]),
            }
        )
    return answers


def table(answers: Sequence[dict[str, Any]], classes: Sequence[str], p: Floats) -> str:
    """`id,label,probability`, the probability of every class, then set, novelty, novel and abstain.

    The classes of a set are separated by |. A column that is called as a class gets a trailing underscore.
    """
    text = io.StringIO()
    writer = csv.writer(text)
    columns = [name + "_" * (name in classes) for name in COLUMNS]
    writer.writerow(["id", "label", "probability", *classes, *columns])
    for row, values in zip(answers, p, strict=True):
        novelty = "" if row["novelty"] is None else f"{row['novelty']:.4f}"
        said = ["|".join(row["set"]), novelty, *("yes" if row[name] else "no" for name in ("novel", "abstain"))]
        writer.writerow([row["id"], row["label"], *(f"{v:.6f}" for v in (row["probability"], *values)), *said])
    return text.getvalue()
