"""Blur by a Gaussian; edges are repeated.

x̃ = g_σ * x
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from apercu.corruptions.base import Graded

__all__ = ["Blur"]


@dataclass(frozen=True)
class Blur(Graded):
    """g_σ * x with the strength σ in pixels."""

    USUAL = (0.5, 2.0)
    MOST = 20.0
    UNIT = "the standard deviation in pixels"

    def by(self, x: Tensor, strength: Tensor) -> Tensor:
        """(B, C, H, W), (B, 1, 1, 1) → the same shape."""
        radius = math.ceil(3 * float(strength.max()))
        place = torch.arange(-radius, radius + 1, device=x.device)
        weights = (-0.5 * (place / strength.view(-1, 1).clamp_min(1e-3)).square()).softmax(1)
        # Every image has its own kernel, so images and channels stand side by side as groups.
        column = weights.repeat_interleave(x.shape[1], 0)[:, None, :, None]
        planes = x.reshape(1, -1, *x.shape[2:])
        for kernels, sides in ((column, (0, 0, radius, radius)), (column.mT, (radius, radius, 0, 0))):
            planes = F.conv2d(F.pad(planes, sides, mode="replicate"), kernels, groups=len(kernels))
        return torch.where(strength > 0, planes.view_as(x), x)
