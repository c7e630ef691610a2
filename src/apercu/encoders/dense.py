"""Dense encoder of the third article: pixels in a row, one hidden layer (784-64, then 32 by the bottleneck)."""

from __future__ import annotations

from torch import Tensor, nn

from apercu.encoders.base import Encoder
from apercu.types import Grid, ImageSpec

__all__ = ["Dense"]


class Dense(Encoder):
    """ReLU(W·x + b) with `width` units; images of one size."""

    vector = True

    def __init__(self, image: ImageSpec, width: int = 64) -> None:
        super().__init__()
        self.features = width
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(image.dimensions, width), nn.ReLU())

    def forward(self, x: Tensor) -> tuple[Tensor, Grid]:
        """(B, C, H, W) → (B, 1, F), (1, 1)."""
        hidden: Tensor = self.net(x)
        return hidden.unsqueeze(1), (1, 1)
