"""A probe that unlabelled images teach: labels are spread to all images, and an image asks the nearest.

p(y | x) ∝ Σ_k max(0, cos(f(x), f_k))⁴ · F_k over the ten nearest f_k,  F as in `apercu.spread`
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

from apercu.api import Model
from apercu.beliefs import axes_of, maps
from apercu.data.images import ImageSet
from apercu.errors import ApercuError
from apercu.spread import MOST, Axes, of_nearest, principal_axes, spread
from apercu.tasks._calibration import logits_of
from apercu.validate import sample_of

FOLDS = 4
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Neighbours:
    """Where images lie along the axes, `points` (n, R), and what is believed of their class, `answers` (n, K)."""

    axes: Axes
    points: NDArray[np.float32]
    answers: NDArray[np.float32]

    def logits(self, model: Model, images: ImageSet) -> Floats:
        """ln p(class | image), (B, K)."""
        asked = self.axes.directions(_seen(model, images))
        return logits_of(of_nearest(self.points, self.answers.astype(np.float64), asked))

    def dump(self) -> bytes:
        """As safetensors."""
        arrays = {"mean": self.axes.mean, "components": self.axes.components, "answers": self.answers}
        arrays["points"] = self.points.astype(np.float16)
        # Any other order of rows is lost when it is written.
        return save_arrays({name: np.ascontiguousarray(values) for name, values in arrays.items()})


def restore(data: bytes) -> Neighbours:
    """The probe of `dump`."""
    arrays = load_arrays(data)
    axes = Axes(arrays["mean"], arrays["components"])
    return Neighbours(axes, arrays["points"].astype(np.float32), arrays["answers"])


def fit_neighbours(model: Model, images: ImageSet, seed: int) -> tuple[Neighbours, Ints, Floats]:
    """The probe of these images, some of them labelled; which labelled ones were held back in turn, and the logits that
    the labels of the others gave them.

    Raises:
        ApercuError: labels of fewer than two classes.
    """
    if len(np.unique(images.labels[images.labels >= 0])) < 2:
        raise ApercuError("spreading labels needs those of at least two classes; label more images")
    known = np.sort(np.random.default_rng(seed).permutation(np.flatnonzero(images.labels >= 0))[:MOST])
    others = sample_of(images.subset(np.flatnonzero(images.labels < 0)), MOST - len(known), seed)
    images = images.subset(np.concatenate([known, np.flatnonzero(np.isin(images.ids, others.ids))]))
    axes = _axes(model, images)
    points, classes = axes.directions(_seen(model, images)), len(images.classes)
    found = spread(points, images.labels, classes, seed).astype(np.float32)
    rows, held = np.arange(len(known)), np.zeros((len(known), classes))
    fold = np.random.default_rng(seed).permutation(len(known)) % FOLDS
    for number in range(FOLDS):
        hidden = images.labels.copy()
        hidden[rows[fold == number]] = -1
        if (hidden >= 0).any() and (fold == number).any():
            held[fold == number] = spread(points, hidden, classes, seed)[rows[fold == number]]
    kept = points.astype(np.float16).astype(np.float32)  # as it will be read again
    return Neighbours(axes, kept, found), known, logits_of(held)


def _seen(model: Model, images: ImageSet) -> Iterator[NDArray[np.float32]]:
    """What images are compared by: the maps of an encoder that sees all of an image at once, else pooled codes."""
    if model.network.fixed_size:
        model.network.eval()
        yield from maps(model.network, images, str(model.device))
    else:
        yield model.features(images)


def _axes(model: Model, images: ImageSet) -> Axes:
    if model.network.fixed_size:
        model.network.eval()
        return axes_of(model.network, images, str(model.device))
    return principal_axes(model.features(sample_of(images)))
