"""Scale hyperprior: a small code of the code, written first, that says how far from where each symbol may lie.

    h = round(A(u)),  (μ, ln σ) = S(h),  P(k | h) = s((k + ½ − μ) / σ) − s((k − ½ − μ) / σ)
    rate = −ln P(h) − Σ_n Σ_d ln P(k_nd | h)

Ballé, Minnen, Singh, Hwang and Johnston, "Variational image compression with a scale hyperprior" (2018), with the mean
of Minnen, Ballé and Toderici, "Joint autoregressive and hierarchical priors" (2018); logistic in place of normal
densities. S is made of 3×3 convolutions and ReLUs alone, which `codec/scales.py` computes in whole numbers.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from apercu.blocks import to_map, to_tokens
from apercu.bottlenecks.uniform import Prior
from apercu.likelihoods.base import per_image
from apercu.likelihoods.logistic import log_between
from apercu.types import Grid

STRIDE = 4
REACH = 31
MEANS, SCALES = 64.0, (-4.0, 4.0)
"""Bounds of |μ| and of ln σ, in steps of the symbols."""


class Hyper(nn.Module):
    """A(u) and S(h) for a code of `dim` numbers a token; h has a quarter of them, on a grid of a quarter the side."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        width, self.channels = max(16, dim), max(2, dim // 4)
        self.analysis = nn.Sequential(
            nn.Conv2d(dim, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.Conv2d(width, self.channels, 5, stride=2, padding=2),
        )
        sizes = (self.channels, width, width, 2 * dim)
        self.synthesis = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(sizes))
        self.prior = Prior(self.channels)
        # Rounded to 0, h would teach nothing; by this start it takes several values at once.
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        list(self.synthesis.parameters())[-2].data.mul_(0.1)  # μ near 0 and σ near 1

    @property
    def alphabet(self) -> tuple[int, ...]:
        """How many values each symbol of h has."""
        return (2 * REACH + 1,) * self.channels

    def forward(self, u: Tensor, grid: Grid, noise: bool) -> Tensor:
        """The price of symbols u, (B, N, D) in steps, and of h, in nats: (B,)."""
        h = self._side(u, grid)
        h = h + torch.rand_like(h) - 0.5 if noise else h.round().clamp(-REACH, REACH)
        return -per_image(log_mass(u, *self.answer(h, grid))) - per_image(self.prior(to_tokens(h)))

    def usual(self, u: Tensor) -> Tensor:
        """ln P of symbols (K, D) in steps where h is 0, far from the edges of an image."""
        nothing = torch.zeros(1, self.channels, 3, 3, device=u.device)
        mean, log_scale = self.answer(nothing, (9, 9))
        return log_mass(u, mean[0, 40], log_scale[0, 40])

    def symbols(self, u: Tensor, grid: Grid) -> Tensor:
        """h of symbols (B, N, D) in steps, from 0 on: (B, ⌈h/4⌉, ⌈w/4⌉, dim/4) int64."""
        h = self._side(u, grid).nan_to_num().round().clamp(-REACH, REACH)
        return h.long().permute(0, 2, 3, 1) + REACH

    def answer(self, h: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
        """μ and ln σ of every symbol, each (B, N, D), from h as a map, (B, dim/4, ⌈h/4⌉, ⌈w/4⌉)."""
        for number, layer in enumerate(self.synthesis):
            h = layer(F.interpolate(h.relu(), scale_factor=2.0) if number else h)
        mean, log_scale = to_tokens(h[:, :, : grid[0], : grid[1]]).chunk(2, dim=2)
        return mean.clamp(-MEANS, MEANS), log_scale.clamp(*SCALES)

    def _side(self, u: Tensor, grid: Grid) -> Tensor:
        """A(u), (B, N, D) → (B, dim/4, ⌈h/4⌉, ⌈w/4⌉)."""
        padded = F.pad(to_map(u.asinh(), grid), (0, -grid[1] % STRIDE, 0, -grid[0] % STRIDE))
        h: Tensor = self.analysis(padded)
        return h


def log_mass(u: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """ln P of the unit interval around u."""
    inverse = (-log_scale).exp()
    return log_between((u - 0.5 - mean) * inverse, (u + 0.5 - mean) * inverse)
