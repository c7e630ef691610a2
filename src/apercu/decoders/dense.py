"""Dense decoder of the third article: the mirror of the dense encoder (32-64-784)."""

from __future__ import annotations

from torch import Tensor, nn

from apercu.decoders.base import Decoder
from apercu.types import Grid, ImageSpec

__all__ = ["Dense"]


class Dense(Decoder):
    """W₂·ReLU(W₁·z + b₁) + b₂ with `width` hidden units; images of one size."""

    def __init__(self, image: ImageSpec, dim: int, numbers: int = 1, width: int = 64) -> None:
        super().__init__()
        self.shape = (numbers * image.channels, image.height, image.width)
        self.net = nn.Sequential(nn.Linear(dim, width), nn.ReLU(), nn.Linear(width, numbers * image.dimensions))

    def forward(self, z: Tensor, grid: Grid) -> Tensor:
        """(B, 1, D) → (B, K·C, H, W)."""
        raw: Tensor = self.net(z.flatten(1))
        return raw.view(len(raw), *self.shape)
