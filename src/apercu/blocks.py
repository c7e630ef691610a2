"""Layers shared by encoders and decoders; maps are (B, C, H, W), channels-last in memory."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor, nn

FLAT = 1e-3  # a spread far below it is none


class ChannelNorm(nn.Module):
    """Layer normalisation over the channels of each pixel: no batch statistics, so any batch and any image size.

    Ba, Kiros and Hinton, "Layer normalization" (2016). In channels-last memory the permutation copies nothing.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → the same."""
        normalised: Tensor = self.norm(x.permute(0, 2, 3, 1))
        return normalised.permute(0, 3, 1, 2)


class ResidualBlock(nn.Module):
    """x + conv(act(norm(conv(act(norm(x)))))), 3×3; He et al., "Identity mappings in deep residual networks" (2016)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = ChannelNorm(channels), ChannelNorm(channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → the same."""
        h = self.conv1(F.silu(self.norm1(x)))
        update: Tensor = self.conv2(F.silu(self.norm2(h)))
        return x + update


class Doubling(nn.Module):
    """A transposed 4×4 convolution with stride 2, computed as the 2×2 convolution that it is for each of four phases.

    Shi et al., "Is the deconvolution layer the same as a convolutional layer?" (2016). The same function, with a faster
    gradient on processors: rows 2p − 1 and 2p of the result see rows p − 1 and p of the map alone.
    """

    def __init__(self, channels: int, narrower: int) -> None:
        super().__init__()
        self.phases = nn.Conv2d(channels, 4 * narrower, 2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) → (B, narrower, 2h, 2w)."""
        batch, _, height, width = x.shape
        phases = self.phases(x).permute(0, 2, 3, 1).reshape(batch, height + 1, width + 1, 2, 2, -1)
        # Interleaved by hand: the library's pixel shuffle hands a gradient back that is not channels-last.
        rows = phases.transpose(2, 3).reshape(batch, 2 * height + 2, 2 * width + 2, -1)
        inner: Tensor = rows[:, 1:-1, 1:-1].permute(0, 3, 1, 2)
        return inner


def standardised(x: Tensor) -> Tensor:
    """Each channel of each image with mean 0 and standard deviation 1 over its pixels, (B, C, H, W) → the same.

    Ulyanov, Vedaldi and Lempitsky, "Instance normalization" (2016). What is odd in an image is a small change beside
    the level that all of it has, and is learnt much faster without that level.
    """
    spread = x.std((2, 3), correction=0, keepdim=True)
    return (x - x.mean((2, 3), keepdim=True)) / (spread + FLAT)


def halvings(height: int, width: int, smallest: int = 4) -> int:
    """How often a map can be halved before its shorter side is about `smallest`; at least once, at most five times."""
    return min(5, max(1, round(math.log2(max(min(height, width), 1) / smallest))))


def to_tokens(x: Tensor) -> Tensor:
    """(B, C, h, w) → (B, h·w, C); free for channels-last memory."""
    return x.flatten(2).transpose(1, 2)


def to_map(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """(B, h·w, C) → (B, C, h, w), channels-last."""
    return tokens.transpose(1, 2).reshape(len(tokens), -1, *grid)
