"""Uniform quantizer with learnt steps and a learnt prior: a variational code that can be written down.

    y = W·f + b,  k = round(y / Δ),  z = Δ·k,  rate = −ln P(k) = −Σ_n Σ_d ln P_d(k_nd)
    in training   ũ = y / Δ + ε,  ε ~ U(−½, ½),  rate = −ln P(ũ)

Ballé, Laparra and Simoncelli, "End-to-end optimized image compression" (2017): the posterior N(μ, σ²) becomes the
uniform density of width Δ around y, and its KL divergence from a prior convolved with that box is the rate in nats that
an entropy coder spends. Rounding in the decoder and noise in the rate are mixed as in Minnen and Singh, "Channel-wise
autoregressive entropy models for learned image compression" (2020). ∂z/∂y := 1, ∂z/∂Δ := k − y/Δ (Esser et al., 2020).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from apercu.bottlenecks._stepped import Stepped
from apercu.bottlenecks.base import straight_through
from apercu.likelihoods.base import per_image
from apercu.likelihoods.logistic import log_between
from apercu.types import Code, Grid

__all__ = ["Uniform"]


PACE = 10.0
"""The prior's numbers are kept so many times smaller, so that steps of one size for all weights move them farther.

They must follow the code while it changes: at the network's own pace the rate was five times the entropy.
"""


class Prior(nn.Module):
    """P_d(u) = Σ_j π_dj [s((u + ½ − μ_dj) / σ_dj) − s((u − ½ − μ_dj) / σ_dj)], logistics that each dimension learns."""

    def __init__(self, dim: int, parts: int = 3) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(dim, parts))
        self.place = nn.Parameter(torch.linspace(-1, 1, parts).repeat(dim, 1) / PACE)
        self.width = nn.Parameter(torch.zeros(dim, parts))

    def forward(self, u: Tensor, half: Tensor | float = 0.5) -> Tensor:
        """ln P of the interval u ± `half`, by default the unit interval around u: (…, D) → (…, D)."""
        lower, upper = ((edge.unsqueeze(-1) - PACE * self.place) for edge in (u - half, u + half))
        inverse = (-PACE * self.width).clamp(-7.0, 7.0).exp()  # from a thousandth of a step to a thousand of them
        mass = log_between(lower * inverse, upper * inverse)
        return (mass + (PACE * self.weight).log_softmax(-1)).logsumexp(-1)


class Uniform(Stepped):
    """z = Δ·round(y / Δ) at the cost of writing it, in nats; one symbol for each dimension.

    `reach`: symbols are clamped to −reach … reach; `relaxation`: what the decoder sees in training, the rounded code
    ("mixed") or the noisy one ("noise").
    """

    def __init__(
        self, features: int, dim: int, reach: int = 63, relaxation: Literal["mixed", "noise"] = "mixed"
    ) -> None:
        super().__init__()
        self.dim, self.reach, self.relaxation = dim, reach, relaxation
        self.alphabet = (2 * reach + 1,) * dim
        self.to_code = nn.Linear(features, dim)
        # A quarter makes a few symbols of features of about unit size.
        self.log_step = nn.Parameter(torch.full((dim,), 0.25).log())
        self.prior = Prior(dim)

    def forward(self, features: Tensor, grid: Grid, x: Tensor, noise: bool) -> Code:
        """(B, N, F) → Code with z (B, N, D), symbols (B, N, D) and costs["rate"] (B,)."""
        y, step = self.to_code(features).float(), self.log_step.exp()
        u = y / step
        symbols = self.to_symbols(y)
        error = (symbols - self.reach - u).detach()
        z = mean = straight_through(self.from_symbols(symbols), y + step * error)
        if self.training and noise:
            noisy = u + torch.rand_like(u) - 0.5
            rate = -self.prior(noisy)
            z = step * noisy if self.relaxation == "noise" else mean
        else:
            rate = -self._table()[torch.arange(self.dim, device=y.device), symbols]
        return Code(z, grid, mean=mean, costs={"rate": per_image(rate)}, symbols=symbols)

    def to_symbols(self, z: Tensor) -> Tensor:
        """round(z / Δ) in −reach … reach, from 0 on: (B, N, D) → (B, N, D)."""
        steps: Tensor = (z / self.log_step.exp()).nan_to_num().round().clamp(-self.reach, self.reach)
        return steps.long() + self.reach

    def from_symbols(self, symbols: Tensor) -> Tensor:
        """Δ·k, (B, N, D) → (B, N, D)."""
        return (symbols - self.reach) * self.log_step.exp()

    def pmf(self) -> tuple[Tensor, ...]:
        """The learnt prior of each dimension."""
        return tuple(self._table().exp().detach())

    def _table(self) -> Tensor:
        """ln P of every symbol, (D, 2·reach + 1): the prior over the whole numbers within reach."""
        steps = torch.arange(-self.reach, self.reach + 1, device=self.log_step.device).float()
        table: Tensor = self.prior(steps[:, None].expand(-1, self.dim)).T.log_softmax(-1)
        return table
