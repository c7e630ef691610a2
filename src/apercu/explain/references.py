"""Known images to compare with: the nearest of them, and the most typical of each class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from apercu.api import Model
from apercu.data.images import ImageSet
from apercu.validate import sample_of

MOST, VALUES = 2000, 25_000_000
"""Images, and numbers in their codes, so that they do not fill memory."""

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class References:
    """Images, their codes (n, N, D) and what the model decides of them: `decided` (n,), numbers of its classes."""

    images: ImageSet
    codes: Floats
    decided: Ints

    @property
    def spread(self) -> Floats:
        """The standard deviation of every number of the code, (N, D), nowhere 0."""
        spread = self.codes.std(0)
        floor = np.float32(max(1e-6, 1e-2 * float(spread.mean())))
        floored: Floats = np.maximum(spread, floor)
        return floored

    def fits(self, shape: Sequence[int]) -> bool:
        """Whether codes of this shape, (N, D), can be compared with these: maps grow with the image."""
        return self.codes.shape[1:] == tuple(shape)

    def nearest_decided(self, code: Floats, scale: Floats, wanted: int) -> int | None:
        """The image decided as `wanted` whose code is nearest, by ‖(z − code) / scale‖; None where there is none."""
        rows = np.flatnonzero(self.decided == wanted)
        if len(rows) == 0:
            return None
        return int(rows[_distances(self.codes[rows], code, scale).argmin()])

    def neighbours(self, code: Floats, count: int, not_this: NDArray[np.uint8]) -> list[tuple[int, float]]:
        """The nearest images whose class is known, copies of the image itself left out, with their distances.

        A distance of 1 is the usual one between two of these images (root mean square).
        """
        copies = (self.images.hashes == not_this).all(1)
        rows = np.flatnonzero((self.images.labels >= 0) & ~copies)
        usual = float(np.sqrt(2 * self.codes.var(0).sum())) or 1.0
        distances = _distances(self.codes[rows], code) / usual
        return [(int(rows[i]), float(distances[i])) for i in np.argsort(distances, kind="stable")[:count]]

    def prototype(self, name: str) -> int | None:
        """The image of that class whose code is nearest to the mean of all of its class; None where there is none."""
        if name not in self.images.classes:
            return None
        rows = np.flatnonzero(self.images.labels == self.images.classes.index(name))
        if len(rows) == 0:
            return None
        codes = self.codes[rows]
        return int(rows[_distances(codes, codes.mean(0)).argmin()])


def sample_for(model: Model, images: ImageSet) -> ImageSet:
    """As many of the images as can be compared with."""
    height, width = model.network.grid((images.spec.height, images.spec.width))
    return sample_of(images, min(MOST, max(1, VALUES // (height * width * model.network.bottleneck.dim))))


def _distances(codes: Floats, code: Floats, scale: Floats | float = 1.0) -> Floats:
    difference = (codes - code) / scale
    distances: Floats = np.sqrt(np.square(difference).reshape(len(codes), -1).sum(1))
    return distances
