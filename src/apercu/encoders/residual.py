"""Residual encoder: pre-activation blocks with channel normalisation, halving the map `depth` times."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from apercu.blocks import ChannelNorm, ResidualBlock, halvings, to_tokens
from apercu.encoders.base import Encoder
from apercu.types import Grid, ImageSpec

__all__ = ["Residual"]


class Residual(Encoder):
    """Per stage: conv 4×4 with stride 2, then `blocks` residual blocks; `width`, 2·`width`, 4·`width`, … channels."""

    def __init__(self, image: ImageSpec, width: int = 32, depth: int | None = None, blocks: int = 1) -> None:
        super().__init__()
        depth = halvings(image.height, image.width) if depth is None else depth
        layers: list[nn.Module] = []
        channels = image.channels
        for stage in range(depth):
            layers.append(nn.Conv2d(channels, width << stage, 4, stride=2, padding=1))
            channels = width << stage
            layers += [ResidualBlock(channels) for _ in range(blocks)]
        self.net = nn.Sequential(*layers, ChannelNorm(channels))
        self.stride, self.features = 2**depth, channels

    def forward(self, x: Tensor) -> tuple[Tensor, Grid]:
        """(B, C, H, W) → (B, h·w, F), (h, w)."""
        h = F.silu(self.net(x))
        return to_tokens(h), (h.shape[2], h.shape[3])
