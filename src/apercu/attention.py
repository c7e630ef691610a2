"""Transformer blocks, and the positions that tell their tokens apart.

    y = x + Attention(norm(x)),  y + MLP(norm(y)),  Attention(q, k, v) = softmax(q·kᵀ / √d)·v  in every head

Vaswani et al., "Attention is all you need" (2017); the normalisation stands before each part, as in Dosovitskiy et al.,
"An image is worth 16×16 words" (2021).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from apercu.errors import ApercuError
from apercu.types import Grid, ImageSpec

HEAD = 64


def heads_of(width: int) -> int:
    """How many heads read for tokens of `width` numbers: as many as share them evenly, with at least 64 for each."""
    return next(heads for heads in range(max(1, width // HEAD), 0, -1) if width % heads == 0)


class Attention(nn.Module):
    """Every token reads from every other, by as many `heads` as there are ways to look."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, may_read: Tensor | None = None) -> Tensor:
        """(B, N, width) → the same; `may_read`: (B, N, N) bool, whether a token (row) may read another (column)."""
        batch, count, width = x.shape
        q, k, v = self.queries_keys_values(x).view(batch, count, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mask = None if may_read is None else may_read[:, None]
        read = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        mixed: Tensor = self.out(read.transpose(1, 2).reshape(batch, count, width))
        return mixed


class TransformerBlock(nn.Module):
    """x + attention(norm(x)), then the same with two dense layers of four times the width and GELU between them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads_of(width))
        self.dense = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor, may_read: Tensor | None = None) -> Tensor:
        """(B, N, width) → the same."""
        x = x + self.attention(self.norm1(x), may_read)
        update: Tensor = self.dense(self.norm2(x))
        return x + update


class Transformer(nn.Module):
    """`blocks` transformer blocks, then a normalisation.

    Raises:
        ApercuError: a width that has no room for positions.
    """

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        if width % 4:
            raise ApercuError(f"the width of a transformer must be a multiple of 4, not {width}")
        self.blocks = nn.ModuleList(TransformerBlock(width) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, may_read: Tensor | None = None) -> Tensor:
        """(B, N, width) → the same."""
        for block in self.blocks:
            x = block(x, may_read)
        normalised: Tensor = self.norm(x)
        return normalised


def positions(grid: Grid, width: int, device: torch.device) -> Tensor:
    """Fixed sines and cosines of row and column, (h·w, width), for a grid of any size.

    For k in 0 … width/4 − 1 and the frequency f_k = 10000^(−4k / width): sin(row·f_k), cos(row·f_k), sin(column·f_k),
    cos(column·f_k); so the product of two cells' positions depends on how far apart they lie, and on nothing else.
    """
    frequency = 10000 ** -torch.linspace(0, 1, width // 4 + 1, device=device)[:-1]
    rows, columns = (torch.arange(side, device=device)[:, None] * frequency for side in grid)
    height, breadth = grid
    down = torch.cat([rows.sin(), rows.cos()], 1)[:, None].expand(height, breadth, -1)
    across = torch.cat([columns.sin(), columns.cos()], 1)[None].expand(height, breadth, -1)
    return torch.cat([down, across], 2).flatten(0, 1)


def patch_depth(image: ImageSpec, patch: int = 0) -> int:
    """log₂ of the side of a patch; where `patch` is 0: 2 pixels in images of up to 16, 4 up to 32, 8 up to 64, then 16.

    Raises:
        ApercuError: a patch that is no power of two, or not smaller than the images.
    """
    if patch == 0:
        return min(4, max(1, math.ceil(math.log2(min(image.height, image.width) / 8))))
    if patch < 0 or patch.bit_count() > 1 or patch >= max(image.height, image.width):
        size = f"{image.height}×{image.width}"
        raise ApercuError(f"patch must be a power of two below the size of the images ({size}), or 0, not {patch}")
    return patch.bit_length() - 1
