"""The code of an image as one vector, for the scores that measure how far it lies from normal ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from apercu.anomaly._stages import encoded
from apercu.anomaly.base import Score, as_array, some
from apercu.data.images import ImageSet
from apercu.errors import ApercuError
from apercu.heads import pooled

MOST = 5000


def codes_of(score: Score, x: Tensor) -> NDArray[np.float32]:
    """(B, C, H, W) → (B, K)."""
    return as_array(pooled(encoded(score.model, x)[0]))


def normal_codes(score: Score, normal: ImageSet) -> NDArray[np.float32]:
    """The codes of at most 5,000 normal images, (n, K).

    Raises:
        ApercuError: images so small that their codes differ in length.
    """
    codes = [codes_of(score, x) for x in score.batches(some(normal, MOST, score.seed))]
    if len({code.shape[1] for code in codes}) > 1:
        raise ApercuError("the images differ in size, so their codes do; give them one with --size and --fit resize")
    return np.concatenate(codes)
