"""Squared error, the loss of the articles: Gaussian pixels with σ² = ½, its constant left out.

price = ‖x − x̂‖²
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from apercu.likelihoods.base import Likelihood, PixelDistribution

__all__ = ["MSE"]


@dataclass
class SquaredError(PixelDistribution):
    """x̂ with the squared distance as its price."""

    mean: Tensor

    def each(self, x: Tensor) -> Tensor:
        """(x − x̂)², (B, C, H, W): nats up to the constant ½ ln π."""
        return (x - self.mean).square()

    def sample(self) -> Tensor:
        """x̂: squared error as a training loss says nothing about noise."""
        return self.mean


class MSE(Likelihood):
    """x̂ = sigmoid(raw), priced by squared error."""

    def __init__(self, maximum: float = 255.0) -> None:
        super().__init__()

    def forward(self, raw: Tensor) -> PixelDistribution:
        """(B, C, H, W) → x̂ in (0, 1)."""
        return SquaredError(raw.float().sigmoid())
