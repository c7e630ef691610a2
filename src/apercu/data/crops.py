"""Crops of images to learn from: drawn anew in every epoch, or the middle, which is always the same.

A side that is no longer than the crop's is taken whole: nothing is padded, and images that are too small learn all the
same, in batches of their own size.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from apercu.data.images import ImageSet
from apercu.data.tiles import windows


def drawn(images: ImageSet, side: int, rng: np.random.Generator) -> ImageSet:
    """A crop of at most `side` × `side` pixels of each image, anywhere in it alike."""
    return _cropped(images, side, rng.integers(0, _room(images, side) + 1))


def centred(images: ImageSet, side: int | None) -> ImageSet:
    """The middle of each image, at most `side` × `side` pixels; all of it for None."""
    return images if side is None else _cropped(images, side, _room(images, side) // 2)


def _room(images: ImageSet, side: int) -> NDArray[np.int64]:
    """How far a crop can be moved down and right, (N, 2)."""
    return np.maximum(images.sizes - side, 0)


def _cropped(images: ImageSet, side: int, corners: NDArray[np.int64]) -> ImageSet:
    if (images.sizes <= side).all():
        return images
    boxes = np.concatenate([corners, np.minimum(images.sizes, side)], axis=1)
    return windows(images, np.arange(len(images)), boxes)
