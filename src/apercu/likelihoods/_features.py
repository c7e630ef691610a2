"""Gaussian features with one learnt standard deviation for each, for a decoder that draws features and not pixels.

    −ln p(f | z) = Σ_d (f_d − μ_d(z))² / 2σ_d² + ln(σ_d √2π)

No gradient reaches f itself: an encoder that is trained with it could otherwise win by saying nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from apercu.likelihoods.base import Likelihood, PixelDistribution

__all__ = ["Features"]

FLOOR = 0.05


@dataclass
class GaussianFeatures(PixelDistribution):
    """N(μ, σ²) for every feature; `mean`: (B, F, 1, 1), any number; `sigma`: (F, 1, 1)."""

    mean: Tensor
    sigma: Tensor

    def each(self, x: Tensor) -> Tensor:
        """(f − μ)² / 2σ² + ln(σ √2π), (B, F, 1, 1)."""
        error = (x.detach() - self.mean).square()
        return error / (2 * self.sigma.square()) + self.sigma.log() + 0.5 * math.log(2 * math.pi)

    def sample(self) -> Tensor:
        """μ + σ·ε."""
        return self.mean + self.sigma * torch.randn_like(self.mean)


class Features(Likelihood):
    """f ~ N(raw, σ²) for `features` features of variance 1; σ starts near 1 and stays above 0.05.

    A feature that is the same for all training images would otherwise be priced at minus infinity.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.log_sigma = nn.Parameter(torch.zeros(features, 1, 1))

    def forward(self, raw: Tensor) -> PixelDistribution:
        """(B, F, 1, 1) → N(raw, σ²)."""
        low = math.log(FLOOR)
        sigma = (low + F.softplus(self.log_sigma - low, beta=5.0)).exp()
        return GaussianFeatures(raw.float(), sigma)
