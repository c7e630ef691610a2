"""Structural similarity at several scales as the price of an image: what looks alike is cheap.

    price = 0.04 · C·H·W · (1 − MS-SSIM),  MS-SSIM = Π_j ((1 + s_j) / 2)^β_j

Wang, Simoncelli and Bovik, "Multiscale structural similarity for image quality assessment" (2003). The similarity s_j
of a scale, from −1 to 1, is moved to 0 … 1 first, so that gradients stay finite; that halves what is missing to 1. The
factor lets one λ serve here and for squared errors: the λ of CompressAI's models (Bégaint et al., 2020) for 1 − MS-SSIM
and for 255² · MSE differ by about 50.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from apercu.likelihoods.base import Likelihood, PixelDistribution
from apercu.metrics import ms_ssim

__all__ = ["MSSSIM"]

SCALE = 2 / 50


@dataclass
class Structural(PixelDistribution):
    """x̂ with its dissimilarity as the price."""

    mean: Tensor

    def each(self, x: Tensor) -> Tensor:
        """The price of the image, spread evenly over its numbers, (B, C, H, W)."""
        return (SCALE * (1 - ms_ssim(x, self.mean, "simple")))[:, None, None, None].expand_as(x)

    def sample(self) -> Tensor:
        """x̂: a similarity says nothing about noise."""
        return self.mean


class MSSSIM(Likelihood):
    """x̂ = sigmoid(raw), priced by structural dissimilarity."""

    def __init__(self, maximum: float = 255.0) -> None:
        super().__init__()

    def forward(self, raw: Tensor) -> PixelDistribution:
        """(B, C, H, W) → x̂ in (0, 1)."""
        return Structural(raw.float().sigmoid())
