"""A running average of a model's weights, which is what is validated and kept.

    θ̄ ← d·θ̄ + (1 − d)·θ,  d = min(decay, (1 + n) / (10 + n))

Polyak and Juditsky (1992); the rising d lets a short run forget its start.
"""

from __future__ import annotations

import copy
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)


class Average(Generic[Network]):
    """`module` follows the learnt parameters of `model`; buffers, such as a codebook's, are copied as they are."""

    def __init__(self, model: Network, decay: float) -> None:
        self.module = copy.deepcopy(model).requires_grad_(False)
        self.decay = decay
        # Listed once: walking the modules costs more than the step of a small network.
        self.ours: list[Tensor] = list(self.module.parameters())
        self.theirs: list[Tensor] = list(model.parameters())
        self.copies = list(zip(self.module.buffers(), model.buffers(), strict=True))

    @torch.no_grad()
    def update(self, count: int) -> None:
        """Move by one step, after `count` steps before it."""
        decay = min(self.decay, (1 + count) / (10 + count))
        torch._foreach_lerp_(self.ours, self.theirs, 1 - decay)
        for ours, theirs in self.copies:
            ours.copy_(theirs)
