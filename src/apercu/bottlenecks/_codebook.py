"""Codebooks that follow the features: what the vector quantizers share.

S stages of K codes each. Stage s quantises what the stages before it leave of the feature:

    r_1 = f,  k_s = argmin_k ‖r_s − e_s,k‖²,  r_s+1 = r_s − e_s,k_s,  z = Σ_s e_s,k_s

Each code is a running average of what chose it (van den Oord, Vinyals and Kavukcuoglu, "Neural discrete representation
learning", 2017, appendix A), or learnt by gradient. The codes start from k-means over the first batch, and those that
nothing chooses are moved onto features of the current batch.
"""

from __future__ import annotations

import dataclasses
from abc import ABC
from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from apercu.bottlenecks.base import Health, Quantizer, Use, add_processes, shares, straight_through
from apercu.types import Code

Gradient = Literal["straight-through", "rotation"]


def nearest(points: Tensor, centres: Tensor) -> Tensor:
    """argmin_k ‖p − c_k‖², (M, D), (K, D) → (M,)."""
    with torch.autocast(points.device.type, enabled=False):
        return torch.addmm(centres.square().sum(1), points.to(centres.dtype), centres.T, alpha=-2.0).argmin(1)


def sums_by_centre(points: Tensor, index: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """How many points chose each centre, and their sum: (K,), (K, D); summed over processes."""
    counts = torch.bincount(index, minlength=count).to(points.dtype)
    sums = points.new_zeros(count, points.shape[1]).index_add_(0, index, points)
    add_processes(counts, sums)
    return counts, sums


def draw(points: Tensor, count: int) -> Tensor:
    """`count` of the points at random, without repetition while they last: (M, D) → (count, D)."""
    repeats = -(-count // len(points))
    order = torch.cat([torch.randperm(len(points), device=points.device) for _ in range(repeats)])[:count]
    jitter = 0.01 * points.std() * torch.randn(count, points.shape[1], device=points.device)
    return points[order] + jitter if repeats > 1 else points[order]


def rotated(f: Tensor, z: Tensor) -> Tensor:
    """λ·R·f = z, where R turns f into the direction of z and λ stretches it; both constant for the gradient.

    R = I − 2rrᵀ + 2ẑf̂ᵀ,  r = (f̂ + ẑ) / ‖f̂ + ẑ‖,  λ = ‖z‖ / ‖f‖, (B, N, D). Fifty et al., "Restructuring vector
    quantization with the rotation trick" (2024): the gradient keeps its angle to the code.
    """
    still, z = f.detach(), z.detach()
    unit_f, unit_z = F.normalize(still, dim=-1), F.normalize(z, dim=-1)
    r = F.normalize(unit_f + unit_z, dim=-1)
    turned = f - 2 * (f * r).sum(-1, keepdim=True) * r + 2 * (f * unit_f).sum(-1, keepdim=True) * unit_z
    stretch: Tensor = z.norm(dim=-1, keepdim=True) / still.norm(dim=-1, keepdim=True).clamp_min(1e-12)
    return stretch * turned


class Codebooks(Quantizer, ABC):
    """`stages` codebooks of `codes` vectors, one below the other in `codebook`.

    `learnt`: by gradient instead of the running average with `decay`; `revive`: a code that nothing chose for so many
    steps is moved onto a feature of the batch; `unit`: features and codes lie on the unit sphere.
    """

    codebook: Tensor
    usage: Tensor
    total: Tensor
    idle: Tensor
    started: Tensor
    revived: Tensor

    def __init__(
        self,
        features: int,
        dim: int,
        codes: int,
        *,
        stages: int = 1,
        learnt: bool = False,
        decay: float = 0.99,
        revive: int = 20,
        unit: bool = False,
        gradient: Gradient = "straight-through",
    ) -> None:
        super().__init__()
        self.dim, self.codes, self.alphabet = dim, codes, (codes,) * stages
        self.learnt, self.decay, self.revive, self.unit, self.gradient = learnt, decay, revive, unit, gradient
        self.to_code = nn.Linear(features, dim)
        start = torch.randn(stages * codes, dim)
        if learnt:
            self.codebook = nn.Parameter(start)
        else:
            self.register_buffer("codebook", start)
        self.register_buffer("usage", torch.ones(stages * codes))
        self.register_buffer("total", start.clone())
        self.register_buffer("idle", torch.zeros(stages * codes))
        self.register_buffer("started", torch.tensor(False))
        self.register_buffer("revived", torch.tensor(0))
        self.register_load_state_dict_pre_hook(_without_revived)  # type: ignore[no-untyped-call]

    def to_symbols(self, z: Tensor) -> Tensor:
        """The nearest code of each stage in turn, (B, N, D) → (B, N, S)."""
        left, chosen = self._scaled(z.flatten(0, 1)), []
        for stage in range(len(self.alphabet)):
            vectors = self._vectors(stage)
            chosen.append(nearest(left, vectors))
            left = left - vectors[chosen[-1]]
        return torch.stack(chosen, 1).view(*z.shape[:2], -1)

    def from_symbols(self, symbols: Tensor) -> Tensor:
        """The sum of the codes of all stages, or of the first few: (B, N, ≤ S) → (B, N, D)."""
        z = self._vectors(0)[symbols[..., 0]]
        for stage in range(1, symbols.shape[-1]):
            z = z + self._vectors(stage)[symbols[..., stage]]
        return z

    def pmf(self) -> tuple[Tensor, ...]:
        """How often each code of each stage was chosen in training, as a running average."""
        return shares(self.usage, self.alphabet)

    def _features(self, features: Tensor) -> Tensor:
        """(B, N, F) → (B, N, D), what is quantised; the codebooks start from the first batch that trains."""
        f = self._scaled(self.to_code(features).float())
        if self.training and not self.started:
            self._start(f.detach().flatten(0, 1))
        return f

    def _left(self, f: Tensor, symbols: Tensor) -> list[Tensor]:
        """What is left of f before each stage and after the last, S + 1 times (B, N, D)."""
        left = [f]
        for stage in range(len(self.alphabet)):
            left.append(left[-1] - self._vectors(stage)[symbols[..., stage]].detach())
        return left

    def _through(self, value: Tensor, f: Tensor) -> Tensor:
        """`value` forwards; backwards the gradient passes to f, as it is or turned."""
        return straight_through(value, rotated(f, value) if self.gradient == "rotation" else f)

    def _scaled(self, vectors: Tensor) -> Tensor:
        return F.normalize(vectors, dim=-1) if self.unit else vectors

    def _vectors(self, stage: int) -> Tensor:
        return self._scaled(self.codebook[stage * self.codes : (stage + 1) * self.codes])

    @torch.no_grad()
    def _start(self, points: Tensor) -> None:
        """K-means at each stage: ten rounds of Lloyd's algorithm from random features, (M, D)."""
        left = points
        for stage in range(len(self.alphabet)):
            centres = draw(left, self.codes)
            for _ in range(10):
                counts, sums = sums_by_centre(left, nearest(left, self._scaled(centres)), self.codes)
                centres = torch.where(counts[:, None] > 0, sums / counts[:, None].clamp_min(1), centres)
            which = stage * self.codes + torch.arange(self.codes, device=points.device)
            self._place(which, centres, len(points) / self.codes)
            vectors = self._vectors(stage)
            left = left - vectors[nearest(left, vectors)]
        self.started.fill_(True)

    @torch.no_grad()
    def _learn(self, left: Sequence[Tensor], symbols: Tensor) -> None:
        """Move the running averages, and revive what nothing chooses: S times (B, N, D), (B, N, S)."""
        points = torch.stack([part.detach() for part in left]).flatten(1, 2)
        stages = torch.arange(len(points), device=points.device)
        index = (symbols + self.codes * stages).flatten(0, 1).T.flatten()
        counts, sums = sums_by_centre(points.flatten(0, 1), index, len(self.usage))
        self.usage.lerp_(counts, 1 - self.decay)
        self.idle.add_(1).masked_fill_(counts > 0, 0)
        if not self.learnt:
            self.total.lerp_(sums, 1 - self.decay)
            # Laplace smoothing keeps a code that is rarely chosen finite.
            smoothed = (self.usage + 1e-5) / (self.usage.sum() + len(self.usage) * 1e-5) * self.usage.sum()
            self.codebook.copy_(self.total / smoothed[:, None])
        dead = (self.idle >= self.revive).nonzero()[:, 0]
        for stage in sorted(set((dead // self.codes).tolist())):
            which = dead[dead // self.codes == stage]
            self._place(which, draw(points[stage], len(which)), float(self.usage.mean()))
        self.revived.add_(len(dead))

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
        """The use of the codes, and how often one was revived in training."""
        health = super().health(code)
        return dataclasses.replace(health, measures=health.measures | {"revived": float(self.revived)})

    def advice(self, symbols: Sequence[Use], tokens: int) -> list[str]:
        """A warning for each stage that uses fewer than half of the codes that these tokens could reach."""
        warnings = []
        for stage, use in enumerate(symbols, start=1):
            if use.used < 0.5 * min(self.codes, tokens):
                where = f" at stage {stage}" if len(symbols) > 1 else ""
                warnings.append(
                    f"only {use.used} of {self.codes} codes are in use{where}, though codes that nothing chose for "
                    f"{self.revive} steps were moved onto features of the images; fewer codes would do as well "
                    f"(-s codes={max(2, use.used)}), or a longer training would spread them."
                )
        return warnings


def _without_revived(module: nn.Module, state: dict[str, Any], prefix: str, *rest: object) -> None:
    """Older models did not count what they revived."""
    state.setdefault(prefix + "revived", torch.tensor(0))
