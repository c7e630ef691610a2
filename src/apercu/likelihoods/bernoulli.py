"""Bernoulli pixels: the cross-entropy of the articles, exact for black-and-white images.

    −ln p(x | z) = −Σ x ln p + (1 − x) ln(1 − p)

For grey images it is a loss, not a likelihood: it has no normalising constant there (Loaiza-Ganem and Cunningham,
"The continuous Bernoulli", 2019).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from apercu.likelihoods.base import Likelihood, PixelDistribution

__all__ = ["Bernoulli"]


@dataclass
class BernoulliPixels(PixelDistribution):
    """P(x = 1) = sigmoid(logits)."""

    logits: Tensor

    @property
    def mean(self) -> Tensor:  # type: ignore[override]
        """P(x = 1), (B, C, H, W)."""
        return self.logits.sigmoid()

    def each(self, x: Tensor) -> Tensor:
        """softplus(l) − x·l, (B, C, H, W)."""
        return F.softplus(self.logits) - x * self.logits

    def sample(self) -> Tensor:
        """Zeros and ones."""
        return torch.bernoulli(self.mean)


class Bernoulli(Likelihood):
    """x ~ Bernoulli(sigmoid(raw))."""

    def __init__(self, maximum: float = 255.0) -> None:
        super().__init__()

    def forward(self, raw: Tensor) -> PixelDistribution:
        """(B, C, H, W) → Bernoulli."""
        return BernoulliPixels(raw.float())
