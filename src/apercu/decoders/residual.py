"""Residual decoder: the mirror of the residual encoder, with transposed convolutions between its stages."""

from __future__ import annotations

from torch import Tensor, nn

from apercu.blocks import ChannelNorm, Doubling, ResidualBlock, halvings, to_map
from apercu.decoders.base import Decoder
from apercu.types import Grid, ImageSpec

__all__ = ["Residual"]


class Residual(Decoder):
    """Per stage: `blocks` residual blocks, then a 4×4 transposed convolution with stride 2."""

    def __init__(
        self,
        image: ImageSpec,
        dim: int,
        numbers: int = 1,
        width: int = 32,
        depth: int | None = None,
        blocks: int = 1,
    ) -> None:
        super().__init__()
        depth = halvings(image.height, image.width) if depth is None else depth
        channels = width << (depth - 1)
        layers: list[nn.Module] = [nn.Conv2d(dim, channels, 1)]
        for stage in reversed(range(depth)):
            layers += [ResidualBlock(channels) for _ in range(blocks)]
            layers += [ChannelNorm(channels), nn.SiLU()]
            narrower = width << (stage - 1) if stage else numbers * image.channels
            layers.append(Doubling(channels, narrower))
            channels = narrower
        self.net = nn.Sequential(*layers)
        self.stride = 2**depth

    def forward(self, z: Tensor, grid: Grid) -> Tensor:
        """(B, N, D) → (B, K·C, H, W)."""
        raw: Tensor = self.net(to_map(z, grid))
        return raw
