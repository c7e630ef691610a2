"""Contractive bottleneck: a code that moves little when the pixels move.

    cost = ‖∂z/∂x‖²_F,  z = W·f + b

Rifai et al., "Contractive auto-encoders: explicit invariance during feature extraction" (2011). Exact, one backward
pass per code dimension in one batched call, up to `EXACT` numbers in the code; beyond that Hutchinson's estimate
‖∂z/∂x‖²_F = E_v ‖vᵀ ∂z/∂x‖² over random signs v, which is unbiased. The code is linear in the features: with the
saturating code of the paper, training stayed at the mean image. The decoder's weight decay keeps it from shrinking.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from apercu.bottlenecks.base import Bottleneck, Health, spread_health
from apercu.likelihoods.base import per_image
from apercu.types import Code, Grid

__all__ = ["Contractive"]

EXACT = 32


class Contractive(Bottleneck):
    """z = W·f + b at the cost ‖∂z/∂x‖²_F; `probes`: random directions of the estimate."""

    differentiates_input = True

    def __init__(self, features: int, dim: int, probes: int = 2) -> None:
        super().__init__()
        self.dim, self.probes = dim, probes
        self.to_code = nn.Linear(features, dim)

    def forward(self, features: Tensor, grid: Grid, x: Tensor, noise: bool) -> Code:
        """(B, N, F) → Code with z (B, N, D) and costs["contraction"] (B,).

        The cost is left out where `x` records no gradient, as when only the code is asked for.
        """
        z = self.to_code(features).float()
        costs = {"contraction": self._penalty(z, x, noise)} if x.requires_grad else {}
        return Code(z, grid, mean=z, costs=costs)

    def _penalty(self, z: Tensor, x: Tensor, noise: bool) -> Tensor:
        size = z[0].numel()
        if size <= EXACT:
            directions = torch.eye(size, device=z.device)
            directions = directions[:, None, :].expand(size, len(z), size).reshape(size, *z.shape)
        else:
            # A score must not depend on when or beside whom it is asked: without noise all share fixed directions.
            generator = None if noise else torch.Generator(z.device).manual_seed(0)
            shape = z.shape if noise else (1, *z.shape[1:])
            coin = torch.rand(self.probes, *shape, device=z.device, generator=generator)
            directions = ((coin < 0.5).float() * 2 - 1).expand(self.probes, *z.shape)
        (rows,) = torch.autograd.grad(z, x, directions, create_graph=self.training, is_grads_batched=True)
        squares = per_image(rows.transpose(0, 1).float().square())
        return squares if size <= EXACT else squares / self.probes

    @torch.no_grad()
    def health(self, code: Code) -> Health:
        """Active units by variance."""
        return spread_health(code.mean)
