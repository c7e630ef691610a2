"""Heat maps for the eye: laid over the image, with an outline around what is called odd."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from apercu.data.convert import resize
from apercu.tasks._regions import Mask

Pixels = NDArray[np.float32]

THUMB = 224
COLOURS = np.array([[0.0, 0.0, 0.1], [0.35, 0.05, 0.45], [0.8, 0.25, 0.25], [0.98, 0.65, 0.1], [1.0, 1.0, 0.7]])
"""Dark to light and so readable without colour, after the map inferno of matplotlib."""
OUTLINE = (0.1, 0.9, 1.0)


def overlay(image: Pixels, heat: NDArray[np.float32], mask: Mask, high: float) -> Pixels:
    """(C, H, W) in [0, 1], its map and what is called odd, (H, W) → (3, H, W): opaque from `high` on, clear at 0."""
    share = np.clip(heat / max(high, 1e-6), 0, 1)
    knots = np.linspace(0, 1, len(COLOURS))
    colours = np.stack([np.interp(share, knots, COLOURS[:, c]) for c in range(3)])
    ground = image if len(image) == 3 else np.repeat(image.mean(0, keepdims=True), 3, axis=0)
    shown = (1 - 0.6 * share) * ground + 0.6 * share * colours
    shown[:, _outline(mask)] = np.array(OUTLINE)[:, None]
    pixels: Pixels = shown.astype(np.float32)
    return pixels


def _outline(mask: Mask) -> Mask:
    """The pixels outside that touch what is inside."""
    from scipy.ndimage import binary_dilation

    outline: Mask = binary_dilation(mask, np.ones((3, 3))) & ~mask
    return outline


def thumbnails(images: Sequence[Pixels]) -> list[Pixels]:
    """The images with their longer side at most 224 pixels."""
    small = []
    for image in images:
        scale = THUMB / max(image.shape[1:])
        size = (max(1, round(scale * image.shape[1])), max(1, round(scale * image.shape[2])))
        small.append(resize(image.astype(np.float32), size) if scale < 1 else image)
    return small
