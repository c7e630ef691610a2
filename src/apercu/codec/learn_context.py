"""Learn what the context of a symbol says from the symbols that are written: training saw them with noise."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from apercu.bottlenecks._context import Context
from apercu.codec.quality import EIGHTHS

SIDE = 16
"""Tokens a side of the parts that are learnt from, at most."""
BATCH = 32
PEAK = 3e-3


def part(code: NDArray[np.int16], rng: np.random.Generator) -> NDArray[np.int16]:
    """A part of a code, (h, w, D) → (≤ 16, ≤ 16, D), where it pleases."""
    top, left = (int(rng.integers(max(0, side - SIDE) + 1)) for side in code.shape[:2])
    return code[top : top + SIDE, left : left + SIDE].copy()


def learn_context(
    context: Context, parts: Sequence[NDArray[np.int16]], points: Sequence[int], steps: int, seed: int = 0
) -> Context:
    """A copy of the network under which symbols, (h, w, D) around 0, are cheapest at their points, by AdamW."""
    learnt = copy.deepcopy(context).cpu().float().train()
    optimizer = torch.optim.AdamW(learnt.parameters(), weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK, total_steps=max(2, steps))
    rng = np.random.default_rng(seed)
    shapes = np.array([code.shape[:2] for code in parts])
    _, kind = np.unique(shapes, axis=0, return_inverse=True)
    for _ in range(steps):
        alike = np.flatnonzero(kind == kind[rng.integers(len(parts))])
        chosen = rng.choice(alike, BATCH)
        u = torch.from_numpy(np.stack([parts[k] for k in chosen])).float()
        quality = torch.tensor([max(EIGHTHS, points[k]) / EIGHTHS for k in chosen])
        price: Tensor = learnt(u.flatten(1, 2), u.shape[1:3], quality)
        optimizer.zero_grad()
        loss = price.mean() / u[0].numel()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    return learnt.eval()
