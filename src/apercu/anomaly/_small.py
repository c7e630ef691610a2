"""Images reduced to a row of few numbers, whatever their size: what the trivial baselines see."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from apercu.anomaly.base import Score, some
from apercu.data.images import ImageSet

SIDE, MOST = 32, 5000


def small(score: Score, x: Tensor) -> Tensor:
    """Each image as at most 32×32, by the mean of what falls into a pixel: (B, C, H, W) → (B, D)."""
    image = score.model.recipe.image
    return F.adaptive_avg_pool2d(x, (min(SIDE, image.height), min(SIDE, image.width))).flatten(1)


def small_ones(score: Score, normal: ImageSet) -> Tensor:
    """At most 5,000 of the normal images, (n, D)."""
    return torch.cat([small(score, x) for x in score.batches(some(normal, MOST, score.seed))])
