"""Analysis transform of an image codec: 5×5 convolutions with stride 2 and divisive normalisation between them."""

from __future__ import annotations

from torch import Tensor, nn

from apercu.blocks import halvings, to_tokens
from apercu.encoders._divisive import Divisive, keep_energy
from apercu.encoders.base import Encoder
from apercu.types import Grid, ImageSpec

__all__ = ["GDN"]


class GDN(Encoder):
    """`depth` times conv 5×5 with stride 2, `width` channels each; Ballé, Laparra and Simoncelli (2017).

    Nothing follows the last convolution: what is quantised is linear, and its amplitude means something.
    """

    def __init__(self, image: ImageSpec, width: int = 64, depth: int | None = None) -> None:
        super().__init__()
        depth = halvings(image.height, image.width) if depth is None else depth
        layers: list[nn.Module] = [nn.Conv2d(image.channels, width, 5, stride=2, padding=2)]
        for _ in range(depth - 1):
            layers += [Divisive(width), nn.Conv2d(width, width, 5, stride=2, padding=2)]
        self.net = nn.Sequential(*layers)
        keep_energy(self.net)
        self.stride, self.features = 2**depth, width

    def forward(self, x: Tensor) -> tuple[Tensor, Grid]:
        """(B, C, H, W) → (B, h·w, F), (h, w)."""
        h: Tensor = self.net(x)
        return to_tokens(h), (h.shape[2], h.shape[3])
