"""Gaussian bottleneck of the variational autoencoder.

    q(z|x) = N(μ(x), σ²(x)),  z = μ + σ·ε,  ε ~ N(0, I)
    cost   = KL(q(z|x) ‖ p(z)) = ½ Σ (μ² + σ² − 1 − ln σ²),  p(z) = N(0, I)

Kingma and Welling, "Auto-encoding variational Bayes" (2014). The divergence is between the posterior q(z|x) and the
prior p(z), and both μ and ln σ² come from the encoder.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from apercu.bottlenecks.base import Bottleneck, Health
from apercu.likelihoods.base import per_image
from apercu.types import Code, Grid

__all__ = ["Gaussian"]


def kl_per_dimension(mean: Tensor, scale: Tensor) -> Tensor:
    """KL(N(μ, σ²) ‖ N(0, 1)) of every number, nats, same shape."""
    return 0.5 * (mean.square() + scale.square() - 1) - scale.log()


class Gaussian(Bottleneck):
    """z ~ N(μ(f), σ²(f)) at the cost of its KL divergence from N(0, I).

    `free_bits`: nats that each dimension may carry at no price while training, max(KL_d, free_bits), so that the
    posterior does not collapse early (Kingma et al., 2016).
    """

    def __init__(self, features: int, dim: int, free_bits: float = 0.0) -> None:
        super().__init__()
        self.dim, self.free_bits = dim, free_bits
        self.to_mean = nn.Linear(features, dim)
        self.to_log_variance = nn.Linear(features, dim)

    def forward(self, features: Tensor, grid: Grid, x: Tensor, noise: bool) -> Code:
        """(B, N, F) → Code with z (B, N, D), its mean and scale, and costs["kl"] (B,)."""
        mean = self.to_mean(features).float()
        # e^±10 is far outside what a useful posterior needs, and keeps half precision finite.
        scale = (0.5 * self.to_log_variance(features).float().clamp(-10.0, 10.0)).exp()
        z = mean + scale * torch.randn_like(mean) if noise else mean
        kl = kl_per_dimension(mean, scale)
        if self.training and self.free_bits > 0:
            kl = kl.clamp_min(self.free_bits)
        return Code(z, grid, mean=mean, costs={"kl": per_image(kl)}, scale=scale)

    @torch.no_grad()
    def health(self, code: Code) -> Health:
        """Mean KL of every dimension; a unit is active where the variance of μ over images exceeds 0.01.

        Burda, Grosse and Salakhutdinov, "Importance weighted autoencoders" (2016).
        """
        scale = torch.ones_like(code.mean) if code.scale is None else code.scale
        kl = kl_per_dimension(code.mean, scale).flatten(0, 1).mean(0)
        variance = code.mean.flatten(0, 1).var(0, unbiased=False)
        active = int((variance > 0.01).sum())
        warnings = []
        if active == 0:
            warnings.append(
                "the posterior has collapsed: every image gets the prior, so the code says nothing. "
                "Use a longer KL warm-up (-s warmup=0.5), free bits (-s free_bits=0.05) or a smaller beta."
            )
        elif active < 0.1 * self.dim:
            warnings.append(
                f"only {active} of {self.dim} dimensions carry information; "
                "a smaller dim would do as well, or a smaller beta would use more of them."
            )
        measures = {
            "active_units": float(active),
            "units": float(self.dim),
            "kl": float(kl.sum()) * code.mean.shape[1],
        }
        return Health(measures, kl.tolist(), "KL divergence in nats", warnings)
