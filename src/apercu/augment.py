"""Views of an image that keep its class: small affine changes for whole batches, on whatever device they are.

    x'(u) = x(A·u + t),  A = rotation · shear · scale

A weak view is what is learnt from; a strong view of the same image must be given the same answer (Sohn et al.,
"FixMatch", 2020). Nothing is mirrored, and grey levels stay, so that digits and scans keep their meaning.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from apercu.types import Batch


@dataclass(frozen=True)
class Affine:
    """Largest rotation (degrees), change of scale, shear and shift (share of the side), each drawn evenly."""

    rotation: float
    scale: float
    shear: float
    shift: float

    def __call__(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → another view of each image; what comes in from outside repeats the edge."""

        def draw(largest: float) -> Tensor:
            return (2 * torch.rand(len(x), device=x.device) - 1) * largest

        angle = draw(math.radians(self.rotation))
        cos, sin, shear = angle.cos(), angle.sin(), draw(self.shear)
        across, down = 1 + draw(self.scale), 1 + draw(self.scale)
        # Coordinates run from −1 to 1, so a shift by a share of the side is twice that share.
        first = torch.stack([cos * across, (shear * cos - sin) * down, draw(2 * self.shift)], 1)
        second = torch.stack([sin * across, (shear * sin + cos) * down, draw(2 * self.shift)], 1)
        grid = F.affine_grid(torch.stack([first, second], 1), list(x.shape), align_corners=False)
        return F.grid_sample(x, grid, padding_mode="border", align_corners=False)


@dataclass(frozen=True)
class Views:
    """A weak and a strong view of every image of a batch; `strength` 1 is right for most images."""

    strength: float = 1.0

    def __call__(self, batch: Batch) -> Batch:
        """The batch with its images replaced by weak views, and `strong` filled."""
        s = self.strength
        weak = Affine(5 * s, 0.05 * s, 0.05 * s, 0.04 * s)
        strong = Affine(20 * s, 0.2 * s, 0.25 * s, 0.12 * s)
        return dataclasses.replace(batch, x=weak(batch.x), strong=strong(batch.x))
