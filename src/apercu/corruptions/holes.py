"""Missing regions: a block in half of the images, strokes such as scratches in the others.

Half of the holes are filled with mid-grey, as those that a person marks are; the others with any level, some of them
with grain, so that a hole is also found where nobody marked it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from apercu.augment.base import draw
from apercu.corruptions.base import Graded

__all__ = ["Holes"]

GREY = 0.5
STROKES, BENDS = 3, 4


@dataclass(frozen=True)
class Holes(Graded):
    """About the share `strength` of the pixels is missing, in all channels."""

    USUAL = (0.02, 0.25)
    MOST = 0.95
    UNIT = "the share of the image"

    def by(self, x: Tensor, strength: Tensor) -> Tensor:
        """(B, C, H, W), (B, 1, 1, 1) → the same shape."""
        hole = torch.where(_half(x), _block(x, strength), _strokes(x, strength))
        level = GREY + draw(x, 0.5) * ~_half(x)
        grain = (torch.rand_like(x) - level) * (~_half(x) & (level != GREY))
        return torch.where(hole, level + grain, x)


def fill(x: Tensor, hole: Tensor) -> Tensor:
    """(B, C, H, W), (B, 1, H, W) bool → the images with mid-grey in the hole, as a model that learnt holes knows it."""
    return torch.where(hole, GREY, x)


def _half(x: Tensor) -> Tensor:
    """True for half of the images, (B, 1, 1, 1) bool."""
    return torch.rand(len(x), 1, 1, 1, device=x.device).lt(0.5)


def _block(x: Tensor, share: Tensor) -> Tensor:
    """A rectangle of that share of the image, at most twice as long in one direction, (B, 1, H, W) bool."""
    stretch = draw(x, 0.35).exp()
    inside = torch.ones((), dtype=torch.bool, device=x.device)
    for axis, part in ((2, share.sqrt() * stretch), (3, share.sqrt() / stretch)):
        count = x.shape[axis]
        length = (part.clamp(max=1) * count).round()
        start = (torch.rand_like(length) * (count - length + 1)).floor()
        place = _line(x, axis) - start
        inside = inside & (place >= 0) & (place < length)
    return inside


def _strokes(x: Tensor, share: Tensor) -> Tensor:
    """A few bent lines, together about that share of the image, (B, 1, H, W) bool."""
    height, width = x.shape[2:]
    size = torch.tensor([height, width], device=x.device)
    knots = torch.rand(len(x), STROKES, BENDS, 2, device=x.device) * size
    # A stroke wanders from one knot to the next: neighbours are drawn towards each other, so that it bends softly.
    knots = knots.lerp(knots.mean(2, keepdim=True), 0.3)
    reach = (knots.diff(dim=2).norm(dim=3).sum((1, 2))).view_as(share)
    half_width = share * height * width / reach.clamp_min(1) / 2
    down, across = _line(x, 2), _line(x, 3)
    near = torch.full((), float("inf"), device=x.device)
    for stroke in range(STROKES):
        for bend in range(BENDS - 1):
            (a, b), (c, d) = (knots[:, stroke, bend + k].T.view(2, -1, 1, 1, 1) for k in (0, 1))
            length = ((c - a).square() + (d - b).square()).clamp_min(1e-6)
            along = (((down - a) * (c - a) + (across - b) * (d - b)) / length).clamp(0, 1)
            apart = (down - a - along * (c - a)).square() + (across - b - along * (d - b)).square()
            near = torch.minimum(near, apart)
    return near.lt(half_width.square())


def _line(x: Tensor, axis: int) -> Tensor:
    """0, 1, 2, … along an axis of the image, as (1, 1, H, 1) or (1, 1, 1, W)."""
    shape = [1, 1, 1, 1]
    shape[axis] = x.shape[axis]
    return torch.arange(x.shape[axis], device=x.device, dtype=torch.float32).view(shape)
