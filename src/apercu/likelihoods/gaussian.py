"""Gaussian pixels with one standard deviation, learnt or fixed.

    −ln p(x | z) = ‖x − x̂‖² / 2σ² + C·H·W · ln(σ √2π)

With σ learnt, the balance between pixels and KL finds itself (Rybkin, Daniilidis and Levine, "Simple and effective
VAE training with calibrated decoders", 2021). σ never falls below half a grey level: below that a density over
stored integers means nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from apercu.likelihoods.base import Likelihood, PixelDistribution, clamp01

__all__ = ["Gaussian"]


@dataclass
class GaussianPixels(PixelDistribution):
    """N(x̂, σ²) for every pixel; `sigma`: (), in units of the pixel range."""

    mean: Tensor
    sigma: Tensor

    def each(self, x: Tensor) -> Tensor:
        """(x − x̂)² / 2σ² + ln(σ √2π), (B, C, H, W)."""
        return (x - self.mean).square() / (2 * self.sigma.square()) + self.sigma.log() + 0.5 * math.log(2 * math.pi)

    def sample(self) -> Tensor:
        """x̂ + σ·ε, clipped to the pixel range."""
        return clamp01(self.mean + self.sigma * torch.randn_like(self.mean))


class Gaussian(Likelihood):
    """x ~ N(sigmoid(raw), σ²); `sigma` None learns one σ for all pixels, starting at 0.1."""

    def __init__(self, maximum: float = 255.0, sigma: float | None = None) -> None:
        super().__init__()
        self.floor = 0.5 / maximum if maximum > 1 else 0.5 / 255
        start = 0.1 if sigma is None else sigma
        log_sigma = torch.tensor(math.log(max(start, self.floor)))
        if sigma is None:
            self.log_sigma = nn.Parameter(log_sigma)
        else:
            self.register_buffer("log_sigma", log_sigma)

    def forward(self, raw: Tensor) -> PixelDistribution:
        """(B, C, H, W) → N(sigmoid(raw), σ²)."""
        low = math.log(self.floor)
        sigma = (low + F.softplus(self.log_sigma - low, beta=5.0)).exp()
        return GaussianPixels(raw.float().sigmoid(), sigma)
