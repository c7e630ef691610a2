"""Reconstruction error of every pixel.

map(x) = g_σ * mean over channels of |x − x̂|
"""

from __future__ import annotations

from torch import Tensor

from apercu.anomaly._drawn import drawn, lacks_pixels, reach, smooth
from apercu.anomaly.base import MapScore
from apercu.api import Model

__all__ = ["Pixel"]


class Pixel(MapScore):
    """|x − x̂|, smoothed."""

    @classmethod
    def lacks(cls, model: Model) -> str:
        """A decoder of pixels."""
        return lacks_pixels(model)

    def map(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, H, W)."""
        return smooth((x - drawn(self.model, x)).abs().mean(1), reach(x))
