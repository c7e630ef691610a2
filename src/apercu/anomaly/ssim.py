"""Structural dissimilarity of an image and its reconstruction.

    map(x) = 1 − SSIM(x, x̂), the mean over channels

Bergmann et al., "Improving unsupervised defect segmentation by applying structural similarity to autoencoders" (2019).
"""

from __future__ import annotations

from torch import Tensor

from apercu.anomaly._drawn import drawn, lacks_pixels, smooth
from apercu.anomaly.base import MapScore
from apercu.api import Model

__all__ = ["SSIM"]

WINDOW = 1.5
C1, C2 = 0.01**2, 0.03**2


class SSIM(MapScore):
    """1 − SSIM in a Gaussian window of σ = 1.5 pixels, as Wang et al. (2004) have it."""

    @classmethod
    def lacks(cls, model: Model) -> str:
        """A decoder of pixels."""
        return lacks_pixels(model)

    def map(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, H, W)."""
        y = drawn(self.model, x)
        parts = [_window(values) for values in (x, y, x * x, y * y, x * y)]
        mean_x, mean_y = parts[:2]
        var_x, var_y, cov = parts[2] - mean_x**2, parts[3] - mean_y**2, parts[4] - mean_x * mean_y
        alike = (2 * mean_x * mean_y + C1) / (mean_x**2 + mean_y**2 + C1) * (2 * cov + C2) / (var_x + var_y + C2)
        return 1 - alike.mean(1)


def _window(values: Tensor) -> Tensor:
    """The mean of the window around each pixel, (B, C, H, W) → the same."""
    return smooth(values.flatten(0, 1), WINDOW).view_as(values)
