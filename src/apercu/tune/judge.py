"""By which images trials are judged, and how: validation images, never those of the test split."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from apercu.api import Model
from apercu.baselines import labelled
from apercu.data.images import ImageSet
from apercu.data.labels import hide_labels
from apercu.data.open import Images
from apercu.errors import ApercuError
from apercu.tasks.classify import Classify
from apercu.validate import sample_of

BOUND = ("pixels", "features", "kl", "rate")
PROBED = 2000  # labels that a probe is fitted to, so that it takes seconds


@dataclass(frozen=True)
class Judge:
    """What every trial learns from and is judged on: by accuracy, or where there are no labels by price."""

    data: Images
    by_accuracy: bool
    about: str

    @property
    def images(self) -> ImageSet:
        """The images that trials are judged on."""
        return sample_of(labelled(self.data.val) if self.by_accuracy else self.data.val)

    def on_the_way(self, row: Mapping[str, float]) -> float | None:
        """What a validation while training says, None where it says nothing that trials could be compared by."""
        if self.by_accuracy:
            return row.get("val_accuracy")
        # With the weight 1, whatever weight it was trained with: only that is a bound on −ln p(x).
        return sum(row.get(f"val_{name}", 0.0) for name in BOUND)

    def at_the_end(self, model: Model, row: Mapping[str, float], seed: int) -> float:
        """The last validation, not the best on the way, which would reward luck; or a probe where there is no head."""
        value = self.on_the_way(row)
        if value is not None:
            return value
        probe = Classify(model, method="best", seed=seed)
        probe.fit(sample_of(labelled(self.data.train), PROBED))
        return float(probe.evaluate(self.images)["accuracy"])


def make_judge(opened: Images, labels: int | str | Path | None, seed: int) -> Judge:
    """Hide labels, and see by what trials can be judged: labelled validation images, held-out labels, or the price.

    Raises:
        ApercuError: labels that do not fit, too few to hold some out, or nothing to judge by.
    """
    data = hide_labels(opened, labels, seed)
    classes, counts = np.unique(data.train.labels[data.train.labels >= 0], return_counts=True)
    if len(classes) < 2:
        if len(data.val) == 0:
            raise ApercuError("there are no validation images to judge by; put some into a folder named val")
        return Judge(data, False, f"the price of {len(sample_of(data.val)):,} validation images")
    seen = int((data.val.labels >= 0).sum())
    if seen:
        return Judge(data, True, f"accuracy on {len(sample_of(labelled(data.val))):,} validation images")
    if counts.max() < 3:
        raise ApercuError(
            "a third of the labels is held out to judge by, and no class has three of them; give more --labels, or "
            "label validation images"
        )
    held = _third(data.train, seed)
    train, val = data.train.subset(~held), data.train.subset(held)
    about = f"accuracy on {held.sum():,} of the {counts.sum():,} labelled images, held out from training"
    return Judge(dataclasses.replace(data, train=train, val=val), True, about)


def _third(train: ImageSet, seed: int) -> np.ndarray:
    """A third of the labels of each class, rounded down, as a mask, (N,)."""
    rng = np.random.default_rng(seed)
    held = np.zeros(len(train), dtype=bool)
    for c in np.unique(train.labels[train.labels >= 0]):
        members = rng.permutation(np.flatnonzero(train.labels == c))
        held[members[: len(members) // 3]] = True
    return held
