"""Salt and pepper: single pixels that are white or black, as from a broken sensor or dust."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from apercu.corruptions.base import Graded

__all__ = ["Salt"]


@dataclass(frozen=True)
class Salt(Graded):
    """Each pixel, in all its channels, becomes white or black with half of the strength each."""

    USUAL = (0.01, 0.2)
    MOST = 1.0
    UNIT = "the share of pixels"

    def by(self, x: Tensor, strength: Tensor) -> Tensor:
        """(B, C, H, W), (B, 1, 1, 1) → the same shape."""
        drawn = torch.rand(len(x), 1, *x.shape[2:], device=x.device)
        return torch.where(drawn < strength, (drawn < strength / 2).to(x.dtype), x)
