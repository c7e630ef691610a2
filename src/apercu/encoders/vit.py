"""Vision Transformer: square patches as tokens, with fixed positions; hidden patches are left out, which saves time.

Dosovitskiy et al., "An image is worth 16×16 words: transformers for image recognition at scale" (2021); left out as in
He et al., "Masked autoencoders are scalable vision learners" (2022).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from apercu.attention import Transformer, patch_depth, positions
from apercu.blocks import to_tokens
from apercu.encoders.base import Encoder
from apercu.types import Grid, ImageSpec

__all__ = ["ViT"]


class ViT(Encoder):
    """Patches of 2^`depth` pixels a side, each a token of `width` numbers, through `blocks` transformer blocks."""

    def __init__(self, image: ImageSpec, width: int = 192, depth: int | None = None, blocks: int = 6) -> None:
        super().__init__()
        self.stride = 2 ** (patch_depth(image) if depth is None else depth)
        self.features = width
        self.embed = nn.Linear(image.channels * self.stride**2, width)
        self.transformer = Transformer(width, blocks)

    def forward(self, x: Tensor) -> tuple[Tensor, Grid]:
        """(B, C, H, W) → (B, h·w, width), (h, w)."""
        patches, grid = self._patches(x)
        features: Tensor = self.transformer(self.embed(patches) + positions(grid, self.features, x.device))
        return features, grid

    def masked(self, x: Tensor, hidden: Tensor) -> tuple[Tensor, Grid]:
        """The same from the patches without a hidden pixel; zeros stand in the places of the others."""
        patches, grid = self._patches(x)
        away = F.max_pool2d(hidden.float(), self.stride).flatten(1) > 0
        # As many tokens as the image that shows the most; where another shows fewer, those beyond are not read.
        count = max(1, int((~away).sum(1).max()))
        order = away.argsort(dim=1, stable=True)[:, :count]
        spare = away.gather(1, order)
        may_read = ~spare[:, None] | torch.eye(count, dtype=torch.bool, device=x.device) if spare.any() else None
        place = positions(grid, self.features, x.device)[order]
        tokens = self.transformer(self.embed(_pick(patches, order)) + place, may_read)
        features = tokens.new_zeros(len(x), patches.shape[1], self.features)
        tokens = tokens.masked_fill(spare[..., None], 0)
        return features.scatter(1, order[..., None].expand_as(tokens), tokens), grid

    def _patches(self, x: Tensor) -> tuple[Tensor, Grid]:
        """(B, C, H, W) → (B, h·w, C·patch²), (h, w)."""
        cut = F.pixel_unshuffle(x, self.stride)
        return to_tokens(cut), (cut.shape[2], cut.shape[3])


def _pick(tokens: Tensor, order: Tensor) -> Tensor:
    """(B, N, K), (B, V) → the tokens at these places, (B, V, K)."""
    return tokens.gather(1, order[..., None].expand(-1, -1, tokens.shape[2]))
