"""Images of the same thing: magnetic tiles were photographed again at other exposures and under other names.

What is compared is the fine structure of 64×64 pixels at even brightness and contrast, by correlation. Where images of
one tile lie on both sides of a split, a detector that has merely seen the tile before seems to know that it is free of
defects: four fifths of the free images have a twin among the others, and one fifth of those with a defect have one
among the free.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.sparse.csgraph import connected_components

SIDE, NEAR = 64, 6
ALIKE = 0.7
"""Correlation from which on two images are taken to show the same tile."""


def _structure(file: Path) -> NDArray[np.float64]:
    """What is left of an image when brightness and contrast are even, as a vector of mean 0 and length 1."""
    with Image.open(file) as image:
        x = np.asarray(image.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX), np.float64)
    apart = x - gaussian_filter(x, NEAR)
    even = gaussian_filter(apart / (np.sqrt(gaussian_filter(apart**2, NEAR)) + 2), 0.7)
    centred: NDArray[np.float64] = (even - even.mean()).ravel()
    return centred / np.linalg.norm(centred)


def groups(files: Sequence[Path]) -> NDArray[np.int64]:
    """Which images show the same tile, as far as the pictures tell: a number for each, (n,)."""
    rows = np.stack([_structure(file) for file in files])
    return connected_components(rows @ rows.T > ALIKE, directed=False)[1].astype(np.int64)


def drawn(files: Sequence[Path], count: int, seed: int) -> NDArray[np.bool_]:
    """About `count` of the images, whole groups of them in an order by `seed`: (n,)."""
    group = groups(files)
    taken = np.zeros(len(files), bool)
    for number in np.random.default_rng(seed).permutation(group.max() + 1):
        own = group == number
        if taken.sum() + own.sum() <= count:
            taken |= own
    return taken
