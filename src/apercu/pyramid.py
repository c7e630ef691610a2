"""A pyramid of maps, fine to coarse and back: what a cell says with an eye on its surroundings.

    p_k = W_k·norm(f_k),  t_K = p_K,  t_k = block(p_k + upsampled(t_{k+1})),  answer = V·t_1

f_1 … f_K are maps from fine to coarse, and then further halvings of the last one. After Lin et al., "Feature pyramid
networks for object detection" (2017).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from apercu.blocks import ChannelNorm, ResidualBlock
from apercu.types import Grid

WIDTH = 32


class Pyramid(nn.Module):
    """Maps of `features` channels, fine to coarse, and `deeper` halvings, to `numbers` for each cell of the finest."""

    def __init__(self, features: list[int], numbers: int, deeper: int) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(nn.Sequential(ChannelNorm(f), nn.Conv2d(f, WIDTH, 1)) for f in features)
        self.deeper = nn.ModuleList(ResidualBlock(WIDTH) for _ in range(deeper))
        self.blocks = nn.ModuleList(ResidualBlock(WIDTH) for _ in range(len(features) + deeper - 1))
        self.out = nn.Sequential(ChannelNorm(WIDTH), nn.SiLU(), nn.Conv2d(WIDTH, numbers, 1))

    def forward(self, maps: list[Tensor]) -> Tensor:
        """(B, F_k, h_k, w_k) each → (B, numbers, h_1, w_1)."""
        levels = [lateral(values) for lateral, values in zip(self.laterals, maps, strict=True)]
        for block in self.deeper:
            levels.append(block(F.avg_pool2d(levels[-1], 2, ceil_mode=True)))
        top = levels.pop()
        for block in self.blocks:
            level = levels.pop()
            top = block(level + at_size(top, (level.shape[2], level.shape[3])))
        answer: Tensor = self.out(top)
        return answer


def at_size(values: Tensor, size: Grid) -> Tensor:
    """(B, F, h, w) → (B, F, *size), interpolated."""
    if tuple(values.shape[2:]) == size:
        return values
    return F.interpolate(values, size, mode="bilinear", align_corners=False)
