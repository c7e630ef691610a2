"""Gaussian noise.

x̃ = x + σ·n,  n ~ N(0, 1) for every number of the image, clipped to [0, 1]
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from apercu.corruptions.base import Graded

__all__ = ["Noise"]


@dataclass(frozen=True)
class Noise(Graded):
    """x + σ·n with the strength σ."""

    USUAL = (0.02, 0.25)
    MOST = 2.0
    UNIT = "the standard deviation, where 1 is white"

    def by(self, x: Tensor, strength: Tensor) -> Tensor:
        """(B, C, H, W), (B, 1, 1, 1) → the same shape."""
        return x + strength * torch.randn_like(x)
