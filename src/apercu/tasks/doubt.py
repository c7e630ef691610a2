"""Find labels that are probably wrong: those that all the other labels speak against, and copies labelled differently.

A linear probe on the code is fitted to four fifths of the labels and asked for the rest, in turn. Confident learning
counts how many labels to doubt: for each pair of classes, the images labelled i that are j with at least the mean
probability that images labelled j have; it doubts as many, those whose own label has the lowest probability.

Northcutt, Jiang and Chuang, "Confident learning: estimating uncertainty in dataset labels" (2021), by cleanlab.

Example: apercu doubt MODEL IMAGES -o doubts
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from apercu.api import Model
from apercu.data.images import ImageSet
from apercu.errors import ApercuError
from apercu.tasks._alike import pairs_alike
from apercu.tasks._calibration import tempered
from apercu.tasks._probe import candidates, out_of_fold
from apercu.tasks._written import write_sheet, write_table
from apercu.tasks.base import Result, Task

__all__ = ["Doubt"]

LEARNT = (
    "the code of this model was learnt together with labels, and what was wrong among them may look right to it; one "
    "that learnt without labels, as by --preset vae, is impartial"
)
COLUMNS = ("path", "given", "likelier", "probability", "reason")

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Judgement:
    """What the other labels say of each label: its probability and the likeliest class with its own, (N,) each.

    `doubted`: the rows that confident learning doubts. A label alone in its class is not judged: its probability is 1.
    """

    probability: Floats
    likeliest: Ints
    highest: Floats
    doubted: Ints


class Doubt(Task):
    """`flipped`: the share of labels that `evaluate` replaces by wrong ones to find them again."""

    def __init__(self, model: Model, *, flipped: float = 0.05, seed: int = 0) -> None:
        super().__init__(model)
        self.flipped, self.seed = flipped, seed
        if not 0 < flipped < 0.5:
            raise ApercuError(f"flipped must be a share between 0 and 0.5, not {flipped:g}")

    def __call__(self, images: ImageSet | None, out: Path | None = None) -> Result:
        """The doubtful labels, each with a likelier one, the probability of the given one, and the reason.

        Copies with two labels come first, then the least probable labels. With `out`, `doubts.csv`, and `sheet.png`
        with the images in the same order.

        Raises:
            ApercuError: no images, no labels, or fewer than two classes of two images.
        """
        if images is None or len(images) == 0:
            raise ApercuError("there are no images here whose labels could be doubted")
        known = images.subset(images.labels >= 0)
        judged = self._judge(known, known.labels)
        twins = _contradictions(known, judged.probability)
        copies = {i for i, j in twins.items() if (known.hashes[i] == known.hashes[j]).all()}
        order = sorted({*judged.doubted.tolist(), *twins}, key=lambda i: (i not in copies, judged.probability[i]))
        rows: list[Result] = []
        for i in order:
            likelier, reason = judged.likeliest[i], f"the other labels speak for it with {judged.highest[i]:.0%}"
            if i in twins:
                likelier = known.labels[twins[i]]
                reason = f"{'the same' if i in copies else 'almost the same'} image as {known.ids[twins[i]]}"
            row = {"id": known.ids[i], "given": known.classes[known.labels[i]], "likelier": known.classes[likelier]}
            rows.append(row | {"probability": float(judged.probability[i]), "reason": reason})
        if out is not None:
            write_table([{"path": row["id"], **row} for row in rows], COLUMNS, out / "doubts.csv")
            write_sheet(known.subset(order), out / "sheet")
        return {"n": len(known), "doubted": len(rows), "notes": self._notes(known), "doubts": rows}

    def evaluate(self, images: ImageSet) -> Result:
        """How well labels that are made wrong on purpose are found, a random share of all.

        "precision": the share of wrong ones among the least probable labels, as many as were made wrong; "recall": the
        share of wrong ones that are doubted; "auroc": how well the probability tells them from the others. Labels that
        were wrong before count as right ones. A code that was learnt from these labels makes it look easier than it is.

        Raises:
            ApercuError: no labels, or fewer than two classes of two images.
        """
        from sklearn.metrics import roc_auc_score

        known = images.subset(images.labels >= 0)
        rng = np.random.default_rng(self.seed)
        rows = rng.permutation(len(known))[: max(1, round(self.flipped * len(known)))]
        classes, place = np.unique(known.labels, return_inverse=True)
        place[rows] += rng.integers(1, max(2, len(classes)), len(rows))
        judged = self._judge(known, classes[place % len(classes)])
        wrong = np.isin(np.arange(len(known)), rows)
        return {
            "n": len(known),
            "flipped": len(rows),
            "doubted": len(judged.doubted),
            "precision": float(wrong[np.argsort(judged.probability, kind="stable")[: len(rows)]].mean()),
            "recall": float(np.isin(rows, judged.doubted).mean()),
            "auroc": float(roc_auc_score(wrong, -judged.probability)),
        }

    def _judge(self, known: ImageSet, labels: Ints) -> Judgement:
        """Each label as probes see it that were fitted to other labels."""
        from sklearn.exceptions import ConvergenceWarning

        if len(labels) == 0:
            raise ApercuError("none of these images has a label to doubt; name labelled images")
        rows = np.flatnonzero(np.bincount(labels)[labels] > 1)
        classes, y = np.unique(labels[rows], return_inverse=True)
        if len(classes) < 2:
            raise ApercuError(
                "a label is judged by those of other images, which takes two classes of two images or more, and these "
                f"{len(labels)} labelled images have {len(classes)} such; add images of other classes"
            )
        x = self.model.features(known.subset(rows))
        probe = candidates(np.bincount(y), self.seed)["linear"]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            p = tempered(out_of_fold(probe, x, y, np.arange(len(y)), len(classes), self.seed), 1)
        judged = Judgement(np.ones(len(labels)), labels.copy(), np.ones(len(labels)), rows[_issues(y, p)])
        judged.probability[rows] = p[np.arange(len(y)), y]
        judged.likeliest[rows], judged.highest[rows] = classes[p.argmax(1)], p.max(1)
        return judged

    def _notes(self, known: ImageSet) -> list[str]:
        """What the doubts leave out."""
        counts = np.bincount(known.labels, minlength=len(known.classes))
        alone = [name for name, count in zip(known.classes, counts, strict=True) if count == 1]
        notes = [f"the class {name} has a single image, so its label was not judged; add others" for name in alone]
        if "label" in self.model.network.heads:
            notes.append(LEARNT)
        return notes


def _issues(y: Ints, p: Floats) -> Ints:
    """The labels that confident learning doubts, the least probable first: labels (n,), probabilities (n, classes)."""
    try:
        from cleanlab.filter import find_label_issues
    except ImportError:
        raise ApercuError("doubting labels needs an extra: pip install 'apercu[labels]'") from None
    by = "self_confidence"
    found = find_label_issues(y, p, return_indices_ranked_by=by, filter_by=f"low_{by}", n_jobs=1)
    doubted: Ints = found[p[found].argmax(1) != y[found]]
    return doubted


def _contradictions(images: ImageSet, probability: Floats) -> dict[int, int]:
    """Images with another label than one that looks the same: the less probable of the two → the other."""
    pairs = pairs_alike(images)
    differ = (images.hashes[pairs[:, 0]] != images.hashes[pairs[:, 1]]).any(axis=1)
    found: dict[int, int] = {}
    for pair in pairs[differ.argsort(kind="stable")].tolist():  # copies first: an image is named beside one other
        less, more = sorted(pair, key=lambda i: probability[i])
        if images.labels[less] != images.labels[more]:
            found.setdefault(less, more)
    return found
