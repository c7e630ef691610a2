"""Context prior: what is already written says where the next symbols may lie, and nothing else is written for it.

    stages (g, e): channels of group g = 1 … G at the cells of one colour of a chessboard, then at those of the other
    (μ, ln σ) = O_ge · max(0, C_ge * k + b_q) + m_q,  C a 3×3 convolution over k, the symbols of earlier stages, else 0
    rate = −Σ ln P(k | μ, σ),  P(k) = s((k + ½ − μ) / σ) − s((k − ½ − μ) / σ)

He, Zheng, Sun, Wang and Qin, "Checkerboard context model for efficient learned image compression" (2021), in groups of
channels as in He, Yang, Peng, Ma, Qin and Wang, "ELIC" (2022). All symbols of a stage are written at once, and every
stage is made of what `codec/contexts.py` computes in whole numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from apercu.blocks import to_map
from apercu.bottlenecks._hyper import MEANS, SCALES, log_mass
from apercu.likelihoods.base import per_image
from apercu.types import Grid

GROUPS, HIDDEN = 4, 64
SEEN = 31
"""Symbols beyond are seen as if they were so large."""


@dataclass(frozen=True)
class Stage:
    """What is written at once: channels `start` … `stop` at cells whose row and column have an `odd` sum, or not."""

    start: int
    stop: int
    odd: bool

    @property
    def known(self) -> int:
        """How many channels tell something of them."""
        return self.stop if self.odd else self.start

    def cells(self, grid: Grid, device: torch.device | str = "cpu") -> Tensor:
        """Which cells, (h, w) bool."""
        rows, columns = (torch.arange(side, device=device) for side in grid)
        return (rows[:, None] + columns) % 2 == int(self.odd)


def stages(dim: int) -> Iterator[Stage]:
    """The stages of a code of `dim` channels, in order."""
    bounds = [dim * g // GROUPS for g in range(GROUPS + 1)]
    for start, stop in pairwise(bounds):
        if start < stop:
            yield from (Stage(start, stop, odd) for odd in (False, True))


class Context(nn.Module):
    """μ and ln σ of every symbol of a code of `dim` numbers a token, at each of several `qualities`."""

    def __init__(self, dim: int, qualities: int) -> None:
        super().__init__()
        self.qualities, self.stages = qualities, list(stages(dim))
        self.usual = nn.Parameter(torch.zeros(qualities, 2, dim))
        self.levels = nn.Parameter(torch.full((len(self.stages), qualities, HIDDEN), 0.1))
        self.convolutions = nn.ModuleList(
            nn.Conv2d(stage.known, HIDDEN, 3, padding=1, bias=False) if stage.known else nn.Identity()
            for stage in self.stages
        )
        self.answers = nn.ModuleList(nn.Conv2d(HIDDEN, 2 * (s.stop - s.start), 1, bias=False) for s in self.stages)
        for layer in self.convolutions[1:]:
            nn.init.kaiming_normal_(layer.get_parameter("weight"), nonlinearity="relu")
        for layer in self.answers:
            nn.init.normal_(layer.get_parameter("weight"), std=0.01)

    def forward(self, u: Tensor, grid: Grid, quality: Tensor) -> Tensor:
        """The price of symbols u, (B, N, D) in steps, at a quality of each image, (B,) from 1 on, in nats: (B,)."""
        k = to_map(u, grid)
        seen = k.clamp(-SEEN, SEEN)
        usual = self._at(self.usual, quality)
        price = u.new_zeros(len(u))
        for number, stage in enumerate(self.stages):
            level, cells = self._at(self.levels[number], quality), stage.cells(grid, u.device)
            here = usual[:, :, stage.start : stage.stop, None, None]
            said = self.answers[number](self._hidden(number, stage, seen, cells, level))
            mean, log_scale = (said.unflatten(1, (2, -1)) + here).unbind(1)
            mass = log_mass(k[:, stage.start : stage.stop], mean.clamp(-MEANS, MEANS), log_scale.clamp(*SCALES))
            price = price - per_image(mass * cells)
        return price

    def alone(self, quality: float) -> tuple[Tensor, Tensor]:
        """μ and ln σ of the symbols of a token that is the only one, were nothing known of any, each (D,)."""
        at = torch.full((1,), quality, device=self.usual.device)
        said = [
            self.answers[number](self._at(self.levels[number], at).relu()[:, :, None, None]).unflatten(1, (2, -1))
            for number, stage in enumerate(self.stages)
            if not stage.odd
        ]
        mean, log_scale = (torch.cat(said, 2)[0, :, :, 0, 0] + self._at(self.usual, at)[0]).unbind(0)
        return mean.clamp(-MEANS, MEANS), log_scale.clamp(*SCALES)

    def _at(self, rows: Tensor, quality: Tensor) -> Tensor:
        """Between the rows of the qualities below and above, (Q, …) and (B,) → (B, …)."""
        below = (quality.floor().long() - 1).clamp(0, max(0, self.qualities - 2))
        above, share = (below + 1).clamp_max(self.qualities - 1), (quality - 1 - below).clamp(0, 1)
        return torch.lerp(rows[below], rows[above], share.view(-1, *[1] * (rows.ndim - 1)))

    def _hidden(self, number: int, stage: Stage, seen: Tensor, cells: Tensor, level: Tensor) -> Tensor:
        """max(0, C * k + b): (B, D, h, w) → (B, H, h, w), or (B, H, 1, 1) where nothing is known yet."""
        if not stage.known:
            return F.relu(level[:, :, None, None])
        known = seen[:, : stage.known]
        if stage.odd:  # of its own group, the cells of the other colour alone
            known = torch.cat([known[:, : stage.start], known[:, stage.start :] * ~cells], 1)
        convolved: Tensor = self.convolutions[number](known)
        return F.relu(convolved + level[:, :, None, None])
