"""What the coordinates of a vector code do: each of them moved while the others stay."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from apercu.explain.attribution import held_by
from apercu.explain.decision import Decision
from apercu.explain.explained import Explained

STEPS = 9
"""Odd, so that the middle is the code itself."""

Floats = NDArray[np.float32]


def traversals(code: Tensor, numbers: list[int], reach: Tensor) -> Tensor:
    """The code with one coordinate moved from −reach to +reach: (D,), k numbers, (D,) → (k, STEPS, 1, D)."""
    moved = code.expand(len(numbers), STEPS, 1, -1).clone()
    for row, number in enumerate(numbers):
        moved[row, :, 0, number] += torch.linspace(-1, 1, STEPS, device=code.device) * reach[number]
    return moved


def plane(steps: int) -> Floats:
    """Codes of two numbers on a grid over the middle 95 % of N(0, I), (steps², 1, 2): rows downwards, y upwards."""
    from scipy.stats import norm

    marks = norm.ppf(np.linspace(0.025, 0.975, steps)).astype(np.float32)
    down, right = np.meshgrid(marks[::-1], marks, indexing="ij")
    codes: Floats = np.stack([right.ravel(), down.ravel()], 1)[:, None]
    return codes


@dataclass(frozen=True)
class Coordinate:
    """Coordinate `number` of a code: `nats` of log-odds that the decision owes to it, and what moving it draws.

    `images`: STEPS of (C, H, W) in [0, 1], the middle one where it is; `probabilities`: of the decision for each.
    """

    number: int
    nats: float
    images: list[Floats]
    probabilities: list[float]


def deciding(decision: Decision, part: Explained, reach: Tensor, count: int) -> list[list[Coordinate]]:
    """For each image the coordinates that the decision rests on most; none for a code that is a map.

    What counts is their share in the fall of the log-odds from the image to its counterfactual; `reach`: (D,).
    """
    found, code = part.imagined, part.imagined.code
    if code.z.shape[1] > 1:
        return [[] for _ in part.answers]
    size = (part.batch.x.shape[2], part.batch.x.shape[3])
    shares = held_by(decision, code.z, found.z, code.grid, size, part.decided)[:, 0]
    lists = []
    for i, share in enumerate(shares):
        numbers = share.abs().topk(min(count, len(share))).indices.tolist()
        moved = traversals(code.z[i, 0], numbers, reach).flatten(0, 1)
        with torch.no_grad():
            drawn = decision.draw(moved, code.grid, size)
            p = decision.logits(drawn).softmax(1)[:, int(part.decided[i])].reshape(len(numbers), STEPS)
        strips = drawn.float().cpu().numpy().reshape(len(numbers), STEPS, *drawn.shape[1:])
        lists.append(
            [
                Coordinate(number, float(share[number]), list(strips[row]), p[row].tolist())
                for row, number in enumerate(numbers)
            ]
        )
    return lists
