"""Choose which images to label next: those that are unsure, unlike each other, and typical of many.

    argmax over S of  Σ_x u(x) · max_{s ∈ S ∪ labelled} exp(−‖z_x − z_s‖² / r²)

z is the code and u = 1 − (p₁ − p₂) how unsure the classifier is between its two best classes. Where nothing classifies
yet, u is 1 and the most typical images come first. The more labels there are, the smaller is r and the more u decides.

Example: apercu suggest MODEL IMAGES -n 20 -o next
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from apercu.api import Model
from apercu.data.images import ImageSet
from apercu.errors import ApercuError
from apercu.tasks._alike import pairs_alike
from apercu.tasks._calibration import tempered
from apercu.tasks._herding import Choice, herd
from apercu.tasks._probe import fit_probe, said
from apercu.tasks._written import write_sheet, write_table
from apercu.tasks.base import Result, Task
from apercu.tasks.classify import Classify

__all__ = ["Suggest"]

POOL = 4000  # so many images are compared with each other; a random draw stands for all
SUREST = 0.01  # no answer counts as surer than this, or a classifier that is sure of all would leave nothing to choose
UNSURE = 0.5
DRAWS = 5
COLUMNS = ("path", "label", "guess", "probability", "uncertainty", "typicality", "reason")

Floats = NDArray[np.float64]
Codes = NDArray[np.float32]
Ints = NDArray[np.int64]


class Suggest(Task):
    """`n`: how many images; `seed`: which are looked at, where more than 4,000 have no label."""

    def __init__(self, model: Model, *, n: int = 20, seed: int = 0) -> None:
        super().__init__(model)
        self.n, self.seed = n, seed
        self.classify = Classify(model, seed=seed)
        if n < 1:
            raise ApercuError(f"n must be at least 1, not {n}")

    def fit(self, images: ImageSet, held_out: ImageSet | None = None) -> Result:
        """Fit the classifier whose doubts count, as the task classify does."""
        return self.classify.fit(images, held_out)

    def __call__(self, images: ImageSet | None, out: Path | None = None) -> Result:
        """The images to label next, the most useful first, each with a guess and a reason.

        With `out`, `suggestions.csv`, whose empty column `label` is to be filled in before `fit --labels` reads it; the
        labels known so far stand below, so that the file is complete. `sheet.png` has the images in the same order.

        Raises:
            ApercuError: no images, or none without a label.
        """
        if images is None or len(images) == 0:
            raise ApercuError("there are no images here to choose from")
        known, unknown = images.subset(images.labels >= 0), images.subset(images.labels < 0)
        if len(unknown) == 0:
            raise ApercuError(
                "each of these images has a label already; put those to choose from into a folder called unlabelled "
                "beside those of the classes, or name a CSV file in which the label is empty where it is not known"
            )
        pool = unknown.subset(np.random.default_rng(self.seed).permutation(len(unknown))[:POOL])
        x = self.model.features(pool)
        x_known = self.model.features(known) if len(known) else x[:0]
        p, classes = self._probabilities(pool, x, known, x_known)
        chosen = herd(x, x_known, _uncertainty(p, len(pool)), self.n, pairs_alike(pool))
        best = pool.subset(chosen.rows)
        rows = _explained(best.ids, chosen, None if p is None else p[chosen.rows], classes, len(unknown))
        if out is not None:
            table = [{"path": row["id"], **row} for row in rows]
            table += [{"path": i, "label": known.classes[k]} for i, k in zip(known.ids, known.labels, strict=True)]
            write_table(table, COLUMNS, out / "suggestions.csv")
            write_sheet(best, out / "sheet")
        return {"n": len(rows), "labelled": len(known), "unlabelled": len(unknown), "suggestions": rows}

    def evaluate(self, images: ImageSet) -> Result:
        """Accuracy of a linear probe on the code after n and after 2·n suggested labels, beside as many random ones.

        Means over five draws: half of the images whose label is known are chosen from, the others recognised. No draw
        begins with a label, and the model's own classifier, which has learnt from some, is left aside.

        Raises:
            ApercuError: too few images whose label is known.
        """
        known = images.subset(images.labels >= 0)
        if len(known) < 4 * self.n:
            raise ApercuError(
                f"measuring {self.n} suggestions takes {4 * self.n} images whose label is known and there are "
                f"{len(known)}; name more, or fewer suggestions with -s n={max(1, len(known) // 4)}"
            )
        x = self.model.features(known)
        found = np.array([self._draw(x, known.labels, len(known.classes), draw) for draw in range(DRAWS)])
        gain = found[:, -1, 0] - found[:, -1, 1]
        return {
            "n": len(known),
            "labels": [self.n, 2 * self.n],
            "suggested": found[..., 0].mean(0).tolist(),
            "random": found[..., 1].mean(0).tolist(),
            "gain": float(gain.mean()),
            "standard_error": float(gain.std(ddof=1) / DRAWS**0.5),
        }

    def _draw(self, x: Codes, y: Ints, classes: int, draw: int) -> list[list[float]]:
        """Accuracy by suggested and by random labels after each of two rounds, (2, 2)."""
        order = np.random.default_rng((self.seed, draw)).permutation(len(y))
        pool, test = order[: len(y) // 2][:POOL], order[len(y) // 2 :]
        taken, accuracies = pool[:0], []
        for _ in range(2):
            left = np.setdiff1d(pool, taken)
            p = self._probed(x[left], x[taken], y[taken], classes)
            chosen = herd(x[left], x[taken], _uncertainty(p, len(left)), self.n, np.empty((0, 2), np.int64))
            taken = np.append(taken, left[chosen.rows])
            accuracies.append([self._accuracy(x, y, classes, some, test) for some in (taken, pool[: len(taken)])])
        return accuracies

    def _accuracy(self, x: Codes, y: Ints, classes: int, learnt: Ints, test: Ints) -> float:
        p = self._probed(x[test], x[learnt], y[learnt], classes)
        answers = y[learnt[:1]] if p is None else p.argmax(1)
        return float((answers == y[test]).mean())

    def _probabilities(
        self, pool: ImageSet, x: Codes, known: ImageSet, x_known: Codes
    ) -> tuple[Floats | None, tuple[str, ...]]:
        """p(class | image), (B, classes), and the classes: of the model's classifier, or a probe on what is known."""
        if "label" in self.model.network.heads or "method" in self.model.recipe.tasks.get("classify", {}):
            return self.classify.probabilities(pool), self.classify.classes
        return self._probed(x, x_known, known.labels, len(known.classes)), known.classes

    def _probed(self, x: Codes, x_known: Codes, y: Ints, classes: int) -> Floats | None:
        """p(class | code) by a linear probe on the known ones, (B, classes); None where they are of fewer than two."""
        if len(np.unique(y)) < 2:
            return None
        found = fit_probe(x_known, y, classes, "linear", self.seed)
        return tempered(said(found.probe, x, classes), 1)


def _uncertainty(p: Floats | None, count: int) -> Codes:
    """1 − (p₁ − p₂), (B,); 1 where nothing classifies yet."""
    if p is None:
        return np.ones(count, np.float32)
    second, first = np.sort(p, axis=1)[:, -2:].T
    uncertainty: Codes = np.maximum(1 - (first - second), SUREST).astype(np.float32)
    return uncertainty


def _explained(
    ids: Sequence[str], chosen: Choice, p: Floats | None, classes: tuple[str, ...], unlabelled: int
) -> list[Result]:
    """What is known of each image that was chosen, in figures and in words; p: (n, classes)."""
    rows = []
    uncertainty = _uncertainty(p, len(ids))
    for i, name in enumerate(ids):
        row: Result = {"id": name, "guess": None, "probability": None, "uncertainty": None}
        count = round(float(chosen.stands_for[i]) * unlabelled)
        reasons = [f"stands for about {count} images" if count > 1 else "hardly any other image is like it"]
        if p is not None:
            second, first = (classes[k] for k in np.argsort(p[i])[-2:])
            row |= {"guess": first, "probability": float(p[i].max()), "uncertainty": float(uncertainty[i])}
            reasons.insert(0, f"{first} or {second}" if uncertainty[i] > UNSURE else f"probably {first}")
        rows.append(row | {"typicality": float(chosen.typicality[i]), "reason": "; ".join(reasons)})
    return rows
