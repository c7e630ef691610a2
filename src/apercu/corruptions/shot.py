"""Shot noise of few photons: the brighter, the noisier.

x̃ = σ²·k,  k ~ Poisson(x / σ²),  so that E[x̃] = x and Var[x̃] = σ²·x
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from apercu.corruptions.base import Graded

__all__ = ["Shot"]


@dataclass(frozen=True)
class Shot(Graded):
    """Poisson counts with standard deviation σ where the image is white."""

    USUAL = (0.02, 0.3)
    MOST = 2.0
    UNIT = "the standard deviation at white"

    def by(self, x: Tensor, strength: Tensor) -> Tensor:
        """(B, C, H, W), (B, 1, 1, 1) → the same shape."""
        photon = strength.square().clamp_min(1e-8)
        return torch.where(strength > 0, torch.poisson(x / photon) * photon, x)
