"""Identity bottleneck: the code is a linear map of the features, and costs nothing.

z = W·f + b
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from apercu.bottlenecks.base import Bottleneck, Health, spread_health
from apercu.types import Code, Grid

__all__ = ["Identity"]


class Identity(Bottleneck):
    """z = W·f + b; Hinton and Salakhutdinov, "Reducing the dimensionality of data with neural networks" (2006)."""

    def __init__(self, features: int, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.to_code = nn.Linear(features, dim)

    def forward(self, features: Tensor, grid: Grid, x: Tensor, noise: bool) -> Code:
        """(B, N, F) → Code with z (B, N, D) and no costs."""
        z = self.to_code(features).float()
        return Code(z, grid, mean=z)

    @torch.no_grad()
    def health(self, code: Code) -> Health:
        """Active units by variance."""
        return spread_health(code.mean)
