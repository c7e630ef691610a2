"""Low resolution: made smaller with antialiasing, then as large as before, both bicubic."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from apercu.corruptions.base import Graded

__all__ = ["Low"]


@dataclass(frozen=True)
class Low(Graded):
    """Down by a factor and up again; the strength, as the next whole number, is the factor, and 1 changes nothing."""

    USUAL = (2.0, 4.0)
    MOST = 16.0
    UNIT = "how many times smaller a side is"

    def by(self, x: Tensor, strength: Tensor) -> Tensor:
        """(B, C, H, W), (B, 1, 1, 1) → the same shape."""
        factors, result = strength.round().flatten(), x.clone()
        for factor in sorted(set(factors.tolist())):
            if factor > 1:
                here, smaller = factors == factor, [max(1, round(side / factor)) for side in x.shape[2:]]
                small = F.interpolate(x[here], smaller, mode="bicubic", antialias=True)
                result[here] = F.interpolate(small, x.shape[2:], mode="bicubic")
        return result
