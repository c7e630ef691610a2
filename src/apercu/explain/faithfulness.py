"""Whether an attribution names the pixels that the decision rests on.

    deletion    mean p(class) while pixels vanish into the background, the most important first: lower is better
    insertion   mean p(class) while they appear on it in the same order: higher is better

Petsiuk, Das and Saenko, "RISE: randomized input sampling for explanation of black-box models" (2018). Pixels in random
order stand beside it: an attribution that does no better explains nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor

from apercu.explain.attribution import background
from apercu.explain.decision import Decision

STEPS = 20


@torch.no_grad()
def faithfulness(decision: Decision, x: Tensor, chosen: Tensor, importance: Tensor) -> tuple[Tensor, Tensor]:
    """Areas under the curves of deletion and insertion, each (B,): x (B, C, H, W), importance (B, H, W)."""
    rank = importance.flatten(1).argsort(1, descending=True).argsort(1).view_as(importance)[:, None]
    behind, pixels = background(x), importance[0].numel()
    deleted, inserted = [], []
    for step in range(STEPS + 1):
        first = rank < step / STEPS * pixels
        deleted.append(_probability(decision, torch.where(first, behind, x), chosen))
        inserted.append(_probability(decision, torch.where(first, x, behind), chosen))
    area = 1 / STEPS
    return torch.trapezoid(torch.stack(deleted), dx=area, dim=0), torch.trapezoid(torch.stack(inserted), dx=area, dim=0)


def at_random(decision: Decision, x: Tensor, chosen: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """The same for pixels in random order."""
    generator = torch.Generator().manual_seed(seed)
    importance = torch.rand(len(x), *x.shape[2:], generator=generator).to(x.device)
    return faithfulness(decision, x, chosen, importance)


def inside(importance: Tensor, mask: Tensor) -> Tensor:
    """The share of an attribution that lies inside a mask, Σ_mask |a| / Σ |a|: (B, H, W) twice → (B,)."""
    mass = importance.abs()
    return (mass * mask).flatten(1).sum(1) / mass.flatten(1).sum(1).clamp_min(1e-12)


def _probability(decision: Decision, x: Tensor, chosen: Tensor) -> Tensor:
    return decision.logits(x).softmax(1).gather(1, chosen[:, None]).squeeze(1)
