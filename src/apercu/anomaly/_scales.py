"""How two images differ at several scales, from fine to coarse, as one map."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from apercu.anomaly._drawn import magnitude, reach, smooth

SCALES, SMALLEST = 4, 8
C = 0.0026
Compare = Callable[[Tensor, Tensor], Tensor]


def at_scales(x: Tensor, y: Tensor, compare: Compare) -> Tensor:
    """The mean of `compare` over scales that halve, at most four and none below 8 pixels: (B, C, H, W) → (B, H, W)."""
    size, maps = x.shape[2:], []
    while True:
        here = smooth(compare(x, y), reach(x))
        maps.append(F.interpolate(here[:, None], tuple(size), mode="bilinear", align_corners=False)[:, 0])
        if len(maps) == SCALES or min(x.shape[2:]) < 2 * SMALLEST:
            return torch.stack(maps).mean(0)
        x, y = F.avg_pool2d(x, 2, ceil_mode=True), F.avg_pool2d(y, 2, ceil_mode=True)


def gradient_map(x: Tensor, y: Tensor) -> Tensor:
    """1 − similarity of gradient magnitudes, (B, C, H, W) twice → (B, H, W)."""

    def compare(x: Tensor, y: Tensor) -> Tensor:
        m, n = magnitude(x), magnitude(y)
        return 1 - (2 * m * n + C) / (m.square() + n.square() + C)

    return at_scales(x, y, compare)


def pixel_map(x: Tensor, y: Tensor) -> Tensor:
    """|x − y|, the mean over channels, (B, C, H, W) twice → (B, H, W)."""
    return at_scales(x, y, lambda x, y: (x - y).abs().mean(1))
