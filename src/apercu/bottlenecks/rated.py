"""Uniform quantizer of a codec: several qualities from one model, and a prior that was learnt with it.

    y = W·f + b,  k = round(y / Δ_q),  z = Δ_q·k,  rate = −ln P(k)
    in training   ũ = y / Δ_q + ε,  ε ~ U(−½, ½),  rate = −ln P(ũ)
    λ_q = lam · span^((q − 1)/(Q − 1) − ½),  q = 1 … Q

Each quality has a step for each dimension, the gain of Cui et al., "Asymmetric gained deep image compression with
continuous rate adaptation" (2021), and its inverse; between two qualities steps and λ are interpolated geometrically.
Training draws a quality for each image. The prior is factorised, one density of y for all qualities as in Ballé et al.
(2018), with a mixture of logistics in place of their network; or a hyperprior (`_hyper.py`); or a context of what is
written already (`_context.py`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn

from apercu.bottlenecks._context import Context
from apercu.bottlenecks._hyper import Hyper, log_mass
from apercu.bottlenecks._stepped import Stepped
from apercu.bottlenecks.base import straight_through
from apercu.bottlenecks.uniform import Prior
from apercu.likelihoods.base import per_image
from apercu.types import Code, Grid

__all__ = ["Rated"]


class Rated(Stepped):
    """z = Δ_q·round(y / Δ_q), at a cost in nats, with the λ that a unit of distortion then costs.

    `qualities`: Q; `lam`: λ of the middle one; `span`: λ of the highest over λ of the lowest; `quality`: where an
    evaluation works, from 1 to Q, by default in the middle; `reach`: symbols are clamped to −reach … reach.
    """

    def __init__(
        self,
        features: int,
        dim: int,
        prior: Literal["factorised", "hyper", "context"] = "factorised",
        qualities: int = 1,
        lam: float = 270.0,
        span: float = 100.0,
        reach: int = 255,
    ) -> None:
        super().__init__()
        self.dim, self.reach, self.qualities = dim, reach, qualities
        self.alphabet = (2 * reach + 1,) * dim
        self.quality, self.priced = (qualities + 1) / 2, True
        self.lam, self.span = lam, span
        self.to_code = nn.Linear(features, dim)
        nn.init.kaiming_normal_(self.to_code.weight, nonlinearity="linear")
        self.gain = nn.Parameter(torch.zeros(qualities, dim))
        self.prior = Prior(dim) if prior == "factorised" else None
        self.hyper = Hyper(dim) if prior == "hyper" else None
        self.context = Context(dim, qualities) if prior == "context" else None

    def forward(self, features: Tensor, grid: Grid, x: Tensor, noise: bool) -> Code:
        """(B, N, F) → Code with z (B, N, D), symbols (B, N, D), costs["rate"] and costs["lam"], each (B,)."""
        learning = self.training and noise
        with torch.autocast(features.device.type, enabled=False):  # half precision cannot tell 255 steps apart
            y = self.to_code(features.to(self.to_code.weight.dtype)).float()
            quality = torch.full((len(y),), self.quality, dtype=self.gain.dtype, device=y.device)
            if learning:
                quality = torch.randint(1, self.qualities + 1, quality.shape, device=y.device).to(self.gain.dtype)
            step = self._steps(quality).unsqueeze(1)
            u = y / step
            steps = self._rounded(u)
            error = (steps - u).detach()
            z = straight_through(steps * step, y + step * error)
            rate = torch.zeros_like(quality)
            if self.priced:
                seen = u + torch.rand_like(u) - 0.5 if learning else steps
                rate = self._rate(seen, step, grid, quality, learning)
        costs = {"rate": rate, "lam": self._lam(quality).float()}
        return Code(z, grid, mean=z, costs=costs, symbols=steps.long() + self.reach)

    def _rate(self, seen: Tensor, step: Tensor, grid: Grid, quality: Tensor, learning: bool) -> Tensor:
        """The price of symbols in steps, (B, N, D), in nats: (B,)."""
        if self.hyper is not None:
            return self.hyper(seen, grid, learning)  # type: ignore[no-any-return]
        if self.context is not None:
            return self.context(seen, grid, quality)  # type: ignore[no-any-return]
        return -per_image(self._factorised(seen * step, step / 2))

    @contextmanager
    def at(self, quality: float, priced: bool = True) -> Iterator[None]:
        """Work at another quality meanwhile, which may lie between two; a rate that is not wanted is 0."""
        usual = self.quality, self.priced
        self.quality, self.priced = quality, priced
        try:
            yield
        finally:
            self.quality, self.priced = usual

    def to_symbols(self, z: Tensor) -> Tensor:
        """round(z / Δ) in −reach … reach, from 0 on, at `quality`: (B, N, D) → (B, N, D)."""
        return self._rounded(z / self._step()).long() + self.reach

    def from_symbols(self, symbols: Tensor) -> Tensor:
        """Δ·k at `quality`, (B, N, D) → (B, N, D)."""
        return (symbols - self.reach) * self._step()

    @torch.no_grad()
    def pmf(self) -> tuple[Tensor, ...]:
        """The learnt prior of each dimension at `quality`; with a hyperprior, that of an image whose h is 0, and with a
        context, that of a token that knows of nothing else."""
        steps = torch.arange(-self.reach, self.reach + 1, device=self.gain.device).float()
        table = steps[:, None].expand(-1, self.dim)
        if self.hyper is not None:
            logs = self.hyper.usual(table)
        elif self.context is not None:
            logs = log_mass(table, *self.context.alone(self.quality))
        else:
            step = self._step()
            logs = self._factorised(table * step, step / 2)
        return tuple(logs.T.double().softmax(-1).float())

    def _factorised(self, y: Tensor, half: Tensor) -> Tensor:
        if self.prior is None:
            raise TypeError("another prior takes the place of the factorised one")
        logs: Tensor = self.prior(y, half)
        return logs

    def _rounded(self, u: Tensor) -> Tensor:
        return u.nan_to_num().round().clamp(-self.reach, self.reach)

    def _step(self) -> Tensor:
        """Δ at `quality`, (D,)."""
        return self._steps(torch.full((1,), self.quality, dtype=self.gain.dtype, device=self.gain.device))[0]

    def _steps(self, quality: Tensor) -> Tensor:
        """Δ of each image, (B,) → (B, D): near a quarter in the middle, as 1 / √λ elsewhere, times what was learnt."""
        usual = 0.25 * (self._lam(quality) / self.lam).rsqrt()
        if self.qualities == 1:
            return usual.unsqueeze(1) * self.gain.exp()
        below = (quality.floor().long() - 1).clamp(0, self.qualities - 2)
        share = (quality - 1 - below).unsqueeze(1)
        return usual.unsqueeze(1) * torch.lerp(self.gain[below], self.gain[below + 1], share).exp()

    def _lam(self, quality: Tensor) -> Tensor:
        """λ of each image, (B,) → (B,)."""
        place = (quality - 1) / max(1, self.qualities - 1) - 0.5 * (self.qualities > 1)
        return self.lam * (math.log(self.span) * place).exp()
