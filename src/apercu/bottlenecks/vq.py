"""Vector quantizer with a learnt codebook.

    k(n) = argmin_k ‖f_n − e_k‖²,  z_n = e_k(n),  ∂z/∂f := 1 (straight-through)
    costs: commitment Σ_n ‖f_n − sg(e_k(n))‖²; codebook Σ_n ‖sg(f_n) − e_k(n)‖² where it is learnt by gradient

van den Oord, Vinyals and Kavukcuoglu, "Neural discrete representation learning" (2017). The codebook is a running
average of the features that chose each code (their appendix A), or a parameter learnt by gradient. It starts from
k-means over the first batch, and codes that nothing chooses are moved onto features of the current batch.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn

from apercu.bottlenecks.base import Bottleneck, Health
from apercu.likelihoods.base import per_image
from apercu.types import Code, Grid

__all__ = ["VQ"]


def nearest(points: Tensor, centres: Tensor) -> Tensor:
    """argmin_k ‖p − c_k‖², (M, D), (K, D) → (M,)."""
    return torch.addmm(centres.square().sum(1), points, centres.T, alpha=-2.0).argmin(1)


def sums_by_centre(points: Tensor, index: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """How many points chose each centre, and their sum: (K,), (K, D); summed over processes."""
    counts = torch.bincount(index, minlength=count).to(points.dtype)
    sums = points.new_zeros(count, points.shape[1]).index_add_(0, index, points)
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(counts)
        dist.all_reduce(sums)
    return counts, sums


def draw(points: Tensor, count: int) -> Tensor:
    """`count` of the points at random, without repetition while they last: (M, D) → (count, D)."""
    repeats = -(-count // len(points))
    order = torch.cat([torch.randperm(len(points), device=points.device) for _ in range(repeats)])[:count]
    jitter = 0.01 * points.std() * torch.randn(count, points.shape[1], device=points.device)
    return points[order] + jitter if repeats > 1 else points[order]


class VQ(Bottleneck):
    """The nearest of `codes` vectors for every token.

    `update`: "ema" averages the features with `decay`, "gradient" learns the codebook by its own cost;
    `revive`: a code that nothing chose for so many steps is moved onto a feature of the batch.
    """

    codebook: Tensor

    def __init__(
        self,
        features: int,
        dim: int,
        codes: int = 512,
        update: Literal["ema", "gradient"] = "ema",
        decay: float = 0.99,
        revive: int = 20,
    ) -> None:
        super().__init__()
        self.dim, self.codes, self.update, self.decay, self.revive = dim, codes, update, decay, revive
        self.to_code = nn.Linear(features, dim)
        start = torch.randn(codes, dim)
        if update == "gradient":
            self.codebook = nn.Parameter(start)
        else:
            self.register_buffer("codebook", start)
        self.register_buffer("usage", torch.ones(codes))
        self.register_buffer("total", start.clone())
        self.register_buffer("idle", torch.zeros(codes))
        self.register_buffer("started", torch.tensor(False))
        self.usage: Tensor
        self.total: Tensor
        self.idle: Tensor
        self.started: Tensor

    def forward(self, features: Tensor, grid: Grid, x: Tensor, noise: bool) -> Code:
        """(B, N, F) → Code with z (B, N, D) on the codebook, symbols (B, N, 1) and costs in squared distance (B,)."""
        f = self.to_code(features).float()
        points = f.flatten(0, 1)
        with torch.autocast(points.device.type, enabled=False):
            if self.training:
                self._start(points.detach())
            index = nearest(points, self.codebook)
            chosen = self.codebook[index].view_as(f)
            costs = {"commitment": per_image((f - chosen.detach()).square())}
            if self.update == "gradient":
                costs["codebook"] = per_image((f.detach() - chosen).square())
            if self.training:
                self._learn(points.detach(), index)
        z = f + (chosen - f).detach()
        return Code(z, grid, mean=z, costs=costs, symbols=index.view(len(f), -1, 1))

    @torch.no_grad()
    def _start(self, points: Tensor) -> None:
        """K-means over the first batch: ten rounds of Lloyd's algorithm from random features."""
        if self.started:
            return
        centres = draw(points, self.codes)
        for _ in range(10):
            counts, sums = sums_by_centre(points, nearest(points, centres), self.codes)
            centres = torch.where(counts[:, None] > 0, sums / counts[:, None].clamp_min(1), centres)
        self._place(torch.arange(self.codes, device=points.device), centres, len(points) / self.codes)
        self.started.fill_(True)

    @torch.no_grad()
    def _learn(self, points: Tensor, index: Tensor) -> None:
        """Move the running averages, and revive what nothing chooses."""
        counts, sums = sums_by_centre(points, index, self.codes)
        self.usage.lerp_(counts, 1 - self.decay)
        self.idle.add_(1).masked_fill_(counts > 0, 0)
        if self.update == "ema":
            self.total.lerp_(sums, 1 - self.decay)
            # Laplace smoothing keeps a code that is rarely chosen finite.
            smoothed = (self.usage + 1e-5) / (self.usage.sum() + self.codes * 1e-5) * self.usage.sum()
            self.codebook.copy_(self.total / smoothed[:, None])
        dead = (self.idle >= self.revive).nonzero()[:, 0]
        if len(dead):
            self._place(dead, draw(points, len(dead)), float(self.usage.mean()))

    def _place(self, which: Tensor, vectors: Tensor, usage: float) -> None:
        if dist.is_available() and dist.is_initialized():
            vectors = vectors.contiguous()
            dist.broadcast(vectors, 0)  # every process drew its own
        self.codebook.data[which] = vectors
        self.usage[which] = usage
        self.total[which] = vectors * usage
        self.idle[which] = 0

    @torch.no_grad()
    def health(self, code: Code) -> Health:
        """Perplexity e^H of the choice of codes, and the share of codes in use."""
        symbols = code.symbols
        counts = torch.bincount(symbols.flatten(), minlength=self.codes) if symbols is not None else self.usage
        share = counts / counts.sum()
        entropy = -(share * share.clamp_min(1e-12).log()).sum()
        used = int((counts > 0).sum())
        reachable = min(self.codes, int(counts.sum()))
        warnings = []
        if used < 0.5 * reachable:
            warnings.append(
                f"only {used} of {self.codes} codes are in use; fewer codes would do as well "
                f"(-s codes={max(2, used)}), or a longer training would spread them."
            )
        measures = {
            "perplexity": float(entropy.exp()),
            "codes_used": float(used),
            "codebook_use": used / self.codes,
        }
        return Health(measures, share.tolist(), "share of tokens", warnings)
