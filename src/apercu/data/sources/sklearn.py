"""`sklearn:digits`: the 1,797 handwritten digits of scikit-learn, 8×8, grey from 0 to 16."""

from __future__ import annotations

import numpy as np

from apercu.data.sources.base import Found, Part
from apercu.errors import ApercuError


def accepts(images: object) -> bool:
    """Whether `images` begins with `sklearn:`."""
    return isinstance(images, str) and images.startswith("sklearn:")


def open(images: object) -> Found:
    """Read the digits from the installed package.

    Raises:
        ApercuError: another name than `digits`.
    """
    if images != "sklearn:digits":
        raise ApercuError(f"{images!r} is not known: the only images in scikit-learn are sklearn:digits")
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = digits.images.astype(np.uint8)[:, None]
    ids = [f"digits#{i}" for i in range(len(pixels))]
    part = Part(pixels, ids, digits.target.astype(np.int64))
    return Found([part], tuple(str(name) for name in digits.target_names), maximum=16.0)
