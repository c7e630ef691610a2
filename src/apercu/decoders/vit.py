"""Transformer decoder: every token becomes the pixels of its patch, after all have read from each other."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from apercu.attention import Transformer, patch_depth, positions
from apercu.blocks import to_map
from apercu.decoders.base import Decoder
from apercu.types import Grid, ImageSpec

__all__ = ["ViT"]


class ViT(Decoder):
    """Tokens of `width` numbers with their positions, `blocks` transformer blocks, then dense to 2^`depth` pixels."""

    def __init__(
        self,
        image: ImageSpec,
        dim: int,
        numbers: int = 1,
        width: int = 192,
        depth: int | None = None,
        blocks: int = 2,
    ) -> None:
        super().__init__()
        self.stride = 2 ** (patch_depth(image) if depth is None else depth)
        self.width = width
        self.widen = nn.Linear(dim, width)
        self.transformer = Transformer(width, blocks)
        self.to_pixels = nn.Linear(width, numbers * image.channels * self.stride**2)

    def forward(self, z: Tensor, grid: Grid) -> Tensor:
        """(B, N, D) → (B, K·C, H, W)."""
        tokens = self.transformer(self.widen(z) + positions(grid, self.width, z.device))
        return F.pixel_shuffle(to_map(self.to_pixels(tokens), grid), self.stride)
