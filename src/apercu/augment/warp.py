"""Where the values of an image stand: one map for all of it, sampled once, so that images stay sharp.

    x'(u) = x(A·P·(u + d(u)) + t)

A = rotation · shear · scale, P one of the symmetries of the square, d a smooth displacement, t a shift by whole pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from apercu.augment.base import Op, draw, splines

STEEPEST = 0.48


@dataclass(frozen=True)
class Warp(Op):
    """Turn, scale, shear, shift and bend; what comes in from outside repeats the edge.

    `rotation` in degrees; `scale` as a power of e, for each axis; `shift` as a share of the side; `elastic`: how far
    the knots of a cells × cells net move, as a share of their distance, at most 0.48, below which a cubic B-spline does
    not fold (Choi and Lee, "Injectivity conditions of 2D and 3D uniform cubic B-spline functions", 2000). So without
    `symmetry` no part of an image is ever mirrored. `symmetry`: "mirror" exchanges left and right for half of the
    images, "all" draws from the eight flips and quarter turns; images that are not square get the four that fit.
    """

    rotation: float = 0.0
    scale: float = 0.0
    shear: float = 0.0
    shift: float = 0.0
    elastic: float = 0.0
    cells: int = 4
    symmetry: Literal["none", "mirror", "all"] = "none"

    def __call__(self, x: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] → the same shape and range."""
        return F.grid_sample(x, self.grid(x), padding_mode="border", align_corners=False).clamp_(0, 1)

    def grid(self, x: Tensor) -> Tensor:
        """Where each pixel's value comes from, (B, H, W, 2): across and down, −1 to 1 over the image.

        A map is a net of knots that splines join: straight lines stay straight, so an affine map is one too.
        """
        (height, width), cells, count = x.shape[2:], self.cells, len(x)
        line = torch.arange(-1, cells + 2, device=x.device) * (2 / cells) - 1
        knots = torch.stack(torch.meshgrid(line, line, indexing="xy"), 2)
        reach = min(self.elastic, STEEPEST) * 2 / cells
        bent = knots + (2 * torch.rand(count, *knots.shape, device=x.device) - 1) * reach
        # A shift by whole pixels blurs nothing.
        size = torch.tensor([width, height], device=x.device)
        shift = ((2 * torch.rand(count, 1, 1, 2, device=x.device) - 1) * self.shift * size).round() * 2 / size
        # The matrix is one of pixels, and coordinates are shares of the sides.
        matrix = self.matrix(x) * (size / size[:, None])
        moved = (bent.flatten(1, 2) @ matrix.mT).view_as(bent) + shift
        rows = splines(height, cells, x.device) @ moved.flatten(2)
        columns = torch.kron(splines(width, cells, x.device), torch.eye(2, device=x.device))
        return (rows.flatten(0, 1) @ columns.T).view(count, height, width, 2)

    def matrix(self, x: Tensor) -> Tensor:
        """A·P for each image, (B, 2, 2)."""
        angle, shear = draw(x, math.radians(self.rotation)).flatten(), draw(x, self.shear).flatten()
        wide, high = draw(x, self.scale).flatten().exp(), draw(x, self.scale).flatten().exp()
        cos, sin = angle.cos(), angle.sin()
        entries = cos * wide, (shear * cos - sin) * high, sin * wide, (shear * sin + cos) * high
        matrix = torch.stack(entries, 1).view(-1, 2, 2)
        if self.symmetry == "none":
            return matrix
        signs = torch.randint(2, (len(x), 1, 2), device=x.device) * 2 - 1
        if self.symmetry == "mirror":
            signs[..., 1] = 1
        elif x.shape[2] == x.shape[3]:
            turned = torch.randint(2, (len(x), 1, 1), device=x.device, dtype=torch.bool)
            matrix = torch.where(turned, matrix.flip(2), matrix)
        return matrix * signs


@dataclass(frozen=True)
class Cutout(Op):
    """A square hole anywhere in the image, filled with its mean (DeVries and Taylor, 2017).

    `size`: the hole's largest side, as a share of the image's shorter side.
    """

    size: float

    def __call__(self, x: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] → the same shape and range."""
        height, width = x.shape[2:]
        side = (torch.rand(len(x), 1, 1, 1, device=x.device) * min(self.size, 1) * min(height, width)).round()
        hole = torch.ones((), device=x.device)
        for n, shape in ((height, (1, 1, height, 1)), (width, (1, 1, 1, width))):
            start = (torch.rand_like(side) * (n - side + 1)).floor()
            place = torch.arange(n, device=x.device).view(shape) - start
            hole = hole * ((place >= 0) & (place < side))
        return x.lerp(x.mean((2, 3), keepdim=True), hole)
