"""Convolutional encoder of the articles: 4×4 convolutions with stride 2 and ReLU, doubling the channels each time."""

from __future__ import annotations

from torch import Tensor, nn

from apercu.blocks import halvings, to_tokens
from apercu.encoders.base import Encoder
from apercu.types import Grid, ImageSpec

__all__ = ["Conv"]


class Conv(Encoder):
    """`depth` times ReLU(conv 4×4, stride 2): `width`, 2·`width`, 4·`width`, … channels."""

    def __init__(self, image: ImageSpec, width: int = 32, depth: int | None = None) -> None:
        super().__init__()
        depth = halvings(image.height, image.width) if depth is None else depth
        layers: list[nn.Module] = []
        channels = image.channels
        for stage in range(depth):
            layers += [nn.Conv2d(channels, width << stage, 4, stride=2, padding=1), nn.ReLU()]
            channels = width << stage
        self.net = nn.Sequential(*layers)
        self.stride, self.features = 2**depth, channels

    def forward(self, x: Tensor) -> tuple[Tensor, Grid]:
        """(B, C, H, W) → (B, h·w, F), (h, w)."""
        h: Tensor = self.net(x)
        return to_tokens(h), (h.shape[2], h.shape[3])
