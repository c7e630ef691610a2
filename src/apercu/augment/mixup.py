"""Images mixed with others of their batch, and their answers with them.

    x ← m·x_i + (1 − m)·x_j,  y ← m·y_i + (1 − m)·y_j,  m = max(u, 1 − u),  u ~ Beta(½, ½)

Zhang et al., "mixup: beyond empirical risk minimization" (2018); an image keeps the larger share of its place in the
batch, as in Berthelot et al., "MixMatch" (2019).
"""

from __future__ import annotations

import dataclasses

import torch

from apercu.types import Batch

SHAPE = 0.5


def mixed(batch: Batch) -> Batch:
    """The batch with its strong views and the answers to them mixed; as it is, where it has not both."""
    if batch.strong is None or batch.taught is None:
        return batch
    drawn = torch.distributions.Beta(SHAPE, SHAPE).sample((len(batch.y),)).to(batch.strong)
    own, other = torch.maximum(drawn, 1 - drawn), torch.randperm(len(batch.y), device=batch.y.device)

    def mix(values: torch.Tensor) -> torch.Tensor:
        share = own.view(-1, *[1] * (values.ndim - 1))
        return share * values + (1 - share) * values[other]

    strong = mix(batch.strong).contiguous(memory_format=torch.channels_last)
    return dataclasses.replace(batch, strong=strong, taught_strong=mix(batch.taught))
