"""A trivial baseline: the distance from the mean of the normal images.

s(x) = ‖t(x) − t̄‖² / D,  t: the image, reduced to at most 32×32
"""

from __future__ import annotations

from torch import Tensor

from apercu.anomaly._small import small, small_ones
from apercu.anomaly.base import Arrays, Score, as_array, as_tensor
from apercu.data.images import ImageSet

__all__ = ["Mean"]


class Mean(Score):
    """The squared distance from the mean image."""

    trivial = True

    def fit(self, normal: ImageSet) -> None:
        """The mean of the normal images."""
        self.mean = small_ones(self, normal).mean(0)

    def score(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B,)."""
        return (small(self, x) - self.mean).square().mean(1)

    def arrays(self) -> Arrays:
        """t̄, (D,)."""
        return {"mean": as_array(self.mean)}

    def restore(self, arrays: Arrays) -> None:
        """Take it back."""
        self.mean = as_tensor(arrays["mean"], self.model)
