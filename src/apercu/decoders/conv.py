"""Convolutional decoder of the articles: 4×4 transposed convolutions with stride 2, the mirror of the encoder."""

from __future__ import annotations

from torch import Tensor, nn

from apercu.blocks import Doubling, halvings, to_map
from apercu.decoders.base import Decoder
from apercu.types import Grid, ImageSpec

__all__ = ["Conv"]


class Conv(Decoder):
    """ReLU between `depth` transposed convolutions; a 1×1 convolution first where D is not the encoder's width."""

    def __init__(self, image: ImageSpec, dim: int, numbers: int = 1, width: int = 32, depth: int | None = None) -> None:
        super().__init__()
        depth = halvings(image.height, image.width) if depth is None else depth
        channels = width << (depth - 1)
        layers: list[nn.Module] = [] if dim == channels else [nn.Conv2d(dim, channels, 1)]
        for stage in reversed(range(depth)):
            narrower = width << (stage - 1) if stage else numbers * image.channels
            layers += [Doubling(channels, narrower), nn.ReLU()]
            channels = narrower
        self.net = nn.Sequential(*layers[:-1])
        self.stride = 2**depth

    def forward(self, z: Tensor, grid: Grid) -> Tensor:
        """(B, N, D) → (B, K·C, H, W)."""
        raw: Tensor = self.net(to_map(z, grid))
        return raw
