"""The contract of a decoder: tokens on a grid to the raw numbers of a pixel likelihood."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from apercu.types import Grid


class Decoder(nn.Module, ABC):
    """(B, N, D) on the grid (h, w) → (B, K·C, h·stride, w·stride)."""

    stride: int = 1

    @abstractmethod
    def forward(self, z: Tensor, grid: Grid) -> Tensor:
        """(B, N, D), (h, w) → (B, K·C, H, W); the model crops what it padded."""


class FromVector(Decoder):
    """The mirror of `ToVector`: from one token, through `hidden` units unless that is 0, to the map of `decoder`."""

    def __init__(self, decoder: Decoder, dim: int, grid: Grid, width: int, hidden: int = 0) -> None:
        super().__init__()
        self.decoder, self.grid, self.width = decoder, grid, width
        self.stride = decoder.stride
        length = grid[0] * grid[1] * width
        first = [nn.Linear(dim, hidden), nn.ReLU()] if hidden else []
        self.dense = nn.Sequential(*first, nn.Linear(hidden or dim, length))

    def forward(self, z: Tensor, grid: Grid) -> Tensor:
        """(B, 1, D) → (B, K·C, H, W)."""
        tokens = self.dense(z.flatten(1)).view(len(z), -1, self.width)
        raw: Tensor = self.decoder(tokens, self.grid)
        return raw
