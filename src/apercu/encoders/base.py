"""The contract of an encoder: pixels to N tokens of F features, on a grid."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from apercu.masking import fill
from apercu.types import Grid


class Encoder(nn.Module, ABC):
    """(B, C, H, W) → (B, N, F) with its grid (h, w), h·w = N.

    `stride`: height and width must be multiples of it (the model pads); `features`: F; `vector`: N is always 1.
    """

    stride: int = 1
    features: int
    vector: bool = False

    @abstractmethod
    def forward(self, x: Tensor) -> tuple[Tensor, Grid]:
        """(B, C, H, W) in [0, 1] → (B, N, F), (h, w)."""

    def maps(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, N, F), the tokens before any dense layer takes them together."""
        return self(x)[0]  # type: ignore[no-any-return]

    def masked(self, x: Tensor, hidden: Tensor) -> tuple[Tensor, Grid]:
        """The same from what is visible alone: hidden pixels, (B, 1, H, W) bool, take the mean of the visible ones."""
        features, grid = self(fill(x, hidden))
        return features, grid


class ToVector(Encoder):
    """One token from a map: the map of `encoder` in a row, then a dense layer of `hidden` units unless that is 0."""

    vector = True

    def __init__(self, encoder: Encoder, grid: Grid, hidden: int = 0) -> None:
        super().__init__()
        self.encoder = encoder
        length = grid[0] * grid[1] * encoder.features
        self.stride, self.features = encoder.stride, hidden or length
        self.dense = nn.Sequential(nn.Linear(length, hidden), nn.ReLU()) if hidden else nn.Identity()

    def forward(self, x: Tensor) -> tuple[Tensor, Grid]:
        """(B, C, H, W) → (B, 1, F), (1, 1)."""
        return self.dense(self.maps(x).flatten(1)).unsqueeze(1), (1, 1)

    def maps(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, h·w, F), those of `encoder`."""
        return self.encoder.maps(x)
