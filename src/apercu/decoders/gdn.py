"""Synthesis transform of an image codec: the mirror of `encoders/gdn.py`, with transposed 4×4 convolutions."""

from __future__ import annotations

from torch import Tensor, nn

from apercu.blocks import Doubling, halvings, to_map
from apercu.decoders.base import Decoder
from apercu.encoders._divisive import Divisive, keep_energy
from apercu.types import Grid, ImageSpec

__all__ = ["GDN"]


class GDN(Decoder):
    """A 3×3 convolution from the code, then `depth` doublings with inverse divisive normalisation between them."""

    def __init__(self, image: ImageSpec, dim: int, numbers: int = 1, width: int = 64, depth: int | None = None) -> None:
        super().__init__()
        depth = halvings(image.height, image.width) if depth is None else depth
        layers: list[nn.Module] = [nn.Conv2d(dim, width, 3, padding=1)]
        for stage in reversed(range(depth)):
            layers += [Divisive(width, inverse=True), Doubling(width, width if stage else numbers * image.channels)]
        self.net = nn.Sequential(*layers)
        keep_energy(self.net)
        self.stride = 2**depth

    def forward(self, z: Tensor, grid: Grid) -> Tensor:
        """(B, N, D) → (B, K·C, H, W)."""
        raw: Tensor = self.net(to_map(z, grid))
        return raw
