"""Residual vector quantizer: each stage quantises what the stages before it left.

    r_1 = f,  k_s = argmin_k ‖r_s − e_s,k‖²,  r_s+1 = r_s − e_s,k_s,  z = Σ_s e_s,k_s
    cost: commitment Σ_n Σ_s ‖f_n − sg(Σ_t≤s e_t,k_t)‖²

Zeghidour et al., "SoundStream: an end-to-end neural audio codec" (2021); the cost is that of Lee et al.,
"Autoregressive image generation using residual quantization" (2022). S stages of K codes tell K^S vectors apart, and
the first stages alone are a coarser code.
"""

from __future__ import annotations

import torch
from torch import Tensor

from apercu.bottlenecks._codebook import Codebooks, Gradient
from apercu.likelihoods.base import per_image
from apercu.types import Code, Grid

__all__ = ["RVQ"]


class RVQ(Codebooks):
    """`stages` symbols a token, each out of `codes`; the first k of them decode too.

    `dropout`: the share of the images of a training batch that are decoded from a random number of stages, so that the
    decoder learns to read fewer; `decay`, `revive` and `gradient` as in `VQ`.
    """

    def __init__(
        self,
        features: int,
        dim: int,
        codes: int = 512,
        stages: int = 4,
        decay: float = 0.99,
        revive: int = 20,
        gradient: Gradient = "straight-through",
        dropout: float = 0.0,
    ) -> None:
        super().__init__(features, dim, codes, stages=stages, decay=decay, revive=revive, gradient=gradient)
        self.dropout = dropout

    def forward(self, features: Tensor, grid: Grid, x: Tensor, noise: bool) -> Code:
        """(B, N, F) → Code with z (B, N, D), symbols (B, N, S) and costs["commitment"] (B,)."""
        f = self._features(features)
        symbols = self.to_symbols(f)
        left = self._left(f, symbols)
        commitment = torch.stack([per_image(part.square()) for part in left[1:]]).sum(0)
        value = self.from_symbols(symbols)
        if self.training and noise and self.dropout > 0:
            value = self._shortened(value, left)
        z = self._through(value, f)
        if self.training:
            self._learn(left[:-1], symbols)
        return Code(z, grid, mean=z, costs={"commitment": commitment}, symbols=symbols)

    def _shortened(self, value: Tensor, left: list[Tensor]) -> Tensor:
        """Some images by their first stages alone: z less what the later stages added."""
        count, stages = len(value), len(self.alphabet)
        kept = torch.randint(1, stages + 1, (count,), device=value.device)
        kept = torch.where(torch.rand(count, device=value.device) < self.dropout, kept, stages)
        rest = torch.stack(left)[kept, torch.arange(count, device=value.device)] - left[-1]
        return value - rest
