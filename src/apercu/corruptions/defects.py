"""Defects as parts have them: a place of any shape and size, where something else is seen than should be.

    x̃ = x + a·m·(d − x),  m: a soft mask, d: what the defect shows, a: how strongly it covers

Places are boxes, blobs, stains, scratches and cracks. What is seen there is a cut from the same or another image,
turned and jittered (Li et al., "CutPaste", 2021; Schlüter et al., "Natural synthetic anomalies", 2022), a foreign
texture, or a shade. Blobs are ragged by smooth noise as in Zavrtanik, Kristan and Skočaj, "DRÆM" (2021). A quarter of
the images stays as it is, so that a model also learns to leave good parts alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from apercu.augment.base import draw, shared_out
from apercu.corruptions._shapes import even, masks, perlin, stain
from apercu.corruptions.base import Graded, changed

__all__ = ["Defects"]

UNTOUCHED = 0.25


@dataclass(frozen=True)
class Defects(Graded):
    """A defect that covers what is below it by the strength a."""

    USUAL = (0.2, 1.0)
    MOST = 1.0
    UNIT = "how strongly a defect covers what is below it"

    def by(self, x: Tensor, strength: Tensor) -> Tensor:
        """(B, C, H, W), (B, 1, 1, 1) → the same shape."""
        return torch.where(torch.rand_like(strength) < UNTOUCHED, x, _defective(x, strength))

    def with_mask(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Every image with a defect, (B, C, H, W), and where it is, (B, H, W) bool: the pixels that it changed."""
        x = x.contiguous()
        with torch.no_grad():
            strength = self.low + (self.high - self.low) * even(x)
            damaged = _defective(x, strength).clamp(0, 1)
            # A cut of plain background shows nothing, and a weak shade little: a full stain is always seen.
            unseen = (~changed(x, damaged).flatten(1).any(1)).nonzero()[:, 0]
            if len(unseen):
                plain = x[unseen]
                stained = _covered(plain, 1.0, stain(plain), _shade(plain, through=0)).clamp(0, 1)
                damaged = damaged.index_copy(0, unseen, stained)
        return damaged, changed(x, damaged)


def _defective(x: Tensor, strength: Tensor) -> Tensor:
    """A place in each image, and what is seen there; every shape and every content equally often."""
    return _covered(x, strength, masks(x), shared_out(x, (partial(_cut, x), _texture, _shade)))


def _covered(x: Tensor, strength: Tensor | float, mask: Tensor, shown: Tensor) -> Tensor:
    return x + strength * mask * (shown - x)


def _cut(x: Tensor, own: Tensor) -> Tensor:
    """What is elsewhere in the same image or in another one of `x`, turned and in other brightness."""
    others = x[torch.randint(len(x), (len(own),), device=x.device)]
    donors = torch.where(even(own) < 0.5, own, others)
    turned = _turned(donors, draw(own, math.pi), draw(own, 0.8), draw(own, 0.8))
    return (turned * (1 + draw(own, 0.3)) + draw(own, 0.15)).clamp(0, 1)


def _texture(own: Tensor) -> Tensor:
    """Foreign texture: coarse and fine grain, brighter or darker than the image."""
    grain = perlin(own, 16) + 0.5 * torch.randn_like(own[:, :1])
    mean, spread = _moments(own)
    apart = 2 * torch.rand(len(own), own.shape[1], 1, 1, device=own.device) - 1
    tint = 1.4 * draw(own, 1.0) + 0.6 * apart  # the channels mostly alike
    return (mean + spread.clamp_min(0.1) * (tint + grain)).clamp(0, 1)


def _shade(own: Tensor, through: float = 1.0) -> Tensor:
    """Brighter or darker than the image, more often a little than much; a share of the surface, drawn up to `through`,
    is seen through it."""
    mean, spread = _moments(own)
    least = (1.5 * spread).clamp(0.1, 0.2)
    sign = torch.where(torch.rand_like(mean[:, :1]) < 0.5, -1.0, 1.0)
    sign = torch.where(mean < least, 1.0, torch.where(mean > 1 - least, -1.0, sign))
    much = 0.7 * torch.rand_like(mean[:, :1]).square() + 0.1 * torch.rand_like(mean)
    return (mean + sign * (least + much) + through * even(own) * (own - mean)).clamp(0, 1)


def _moments(own: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel, (B, C, 1, 1) each."""
    return own.mean((2, 3), keepdim=True), own.std((2, 3), correction=0, keepdim=True)


def _turned(x: Tensor, angle: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """The images turned and shifted, mirrored where that leads outside, (B, C, H, W)."""
    cos, sin = angle.flatten().cos(), angle.flatten().sin()
    ratio = x.shape[2] / x.shape[3]
    rows = [torch.stack([cos, -sin * ratio, across.flatten()], 1), torch.stack([sin / ratio, cos, down.flatten()], 1)]
    grid = F.affine_grid(torch.stack(rows, 1), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
