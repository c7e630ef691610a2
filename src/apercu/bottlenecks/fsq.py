"""Finite scalar quantizer: every dimension is rounded to one of a few levels, without a codebook and at no cost.

    f = tanh(W·h + b),  k_d = round(½(L_d − 1)(1 + f_d)),  z_d = 2k_d / (L_d − 1) − 1,  ∂z/∂f := 1

Mentzer et al., "Finite scalar quantization: VQ-VAE made simple" (2023). For even L, ½(L − 1) is the paper's offset of
half a level; the paper's shift inside the tanh is part of b, and its division by ⌊L/2⌋ is one of the decoder's weights.

A token has one symbol out of Π L_d, k_1 + L_1·(k_2 + L_2·(…)), and not one for each dimension: what the dimensions
tell about each other then stands in the entropy coder's table (docs/quantizers.md has the figures).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from apercu.bottlenecks.base import Quantizer, Use, add_processes, count_symbols, shares, straight_through
from apercu.errors import ApercuError
from apercu.types import Code, Grid

__all__ = ["FSQ"]

LARGEST = 65_536


class FSQ(Quantizer):
    """`levels[d]` levels in dimension d of z, evenly over [−1, 1]; as many dimensions as there are levels.

    `decay`: of the running average of how often each combination is chosen.

    Raises:
        ApercuError: levels that cannot be used (`checked_levels`), or not one for each of `dim` dimensions.
    """

    usage: Tensor
    levels: Tensor
    place: Tensor

    def __init__(self, features: int, dim: int, levels: Sequence[int] = (8, 5, 5, 5), decay: float = 0.99) -> None:
        super().__init__()
        levels = checked_levels(levels)
        if len(levels) != dim:
            raise ApercuError(f"{dim} dimensions need {dim} levels and there are {len(levels)}; give one for each")
        self.dim, self.decay, self.alphabet = dim, decay, (math.prod(levels),)
        self.to_code = nn.Linear(features, dim)
        self.register_buffer("usage", torch.ones(self.alphabet))
        self.register_buffer("levels", torch.tensor(levels), persistent=False)
        self.register_buffer("place", torch.tensor((1, *levels[:-1])).cumprod(0), persistent=False)

    def forward(self, features: Tensor, grid: Grid, x: Tensor, noise: bool) -> Code:
        """(B, N, F) → Code with z (B, N, D) on the levels, symbols (B, N, 1) and no costs."""
        f = self.to_code(features).float().tanh()
        symbols = self.to_symbols(f)
        z = straight_through(self.from_symbols(symbols), f)
        if self.training:
            counts = count_symbols(symbols, self.alphabet)
            add_processes(counts)
            self.usage.lerp_(counts, 1 - self.decay)
        return Code(z, grid, mean=z, symbols=symbols)

    def to_symbols(self, z: Tensor) -> Tensor:
        """The nearest level of every dimension, as one number: (B, N, D) → (B, N, 1)."""
        level = (0.5 * (self.levels - 1) * (1 + z.nan_to_num().clamp(-1, 1))).round().long()
        return (level * self.place).sum(-1, keepdim=True)

    def from_symbols(self, symbols: Tensor) -> Tensor:
        """The levels, (B, N, 1) → (B, N, D) in [−1, 1]."""
        level = symbols // self.place % self.levels
        return 2 * level / (self.levels - 1) - 1

    def pmf(self) -> tuple[Tensor, ...]:
        """How often each combination of levels was chosen in training, as a running average."""
        return shares(self.usage, self.alphabet)

    def advice(self, symbols: Sequence[Use], tokens: int) -> list[str]:
        """A warning where fewer than half of the combinations that these tokens could reach are in use."""
        (use,) = symbols
        if use.used >= 0.5 * min(len(use.shares), tokens):
            return []
        return [
            f"only {use.used} of {len(use.shares)} combinations of levels are in use; "
            "fewer levels would do as well, or a longer training would spread them."
        ]


def checked_levels(levels: Sequence[int]) -> tuple[int, ...]:
    """Levels that can be quantised to.

    Raises:
        ApercuError: not whole numbers of at least 2, or more combinations than a table can hold.
    """
    whole = isinstance(levels, list | tuple) and all(isinstance(level, int) and level >= 2 for level in levels)
    if not whole or not levels:
        raise ApercuError(f"levels must be whole numbers of at least 2, such as 8,5,5,5, not {levels!r}")
    if math.prod(levels) > LARGEST:
        raise ApercuError(
            f"levels {','.join(map(str, levels))} have {math.prod(levels):,} combinations and at most {LARGEST:,} "
            "can be written; give fewer levels, or use quantizer=rvq or quantizer=uniform"
        )
    return tuple(levels)
