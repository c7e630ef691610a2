"""For each image of a batch, the nearest code at which its decision changes, over the classes that it may become."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from apercu.explain.counterfactual import Moved, Problem, across, move
from apercu.explain.decision import TOGETHER, Decision
from apercu.explain.references import References
from apercu.types import Code

FARTHEST = 1e9


@dataclass(frozen=True)
class Imagined:
    """The counterfactuals of B images.

    `code`: of the images; `redrawn`: what it decodes to, (B, C, H, W); `z`: where it was moved, (B, N, D); `pixels`:
    what that decodes to; `aimed`: the class that it was to become, (B,); `reached`: whether it did, (B,); `distance`:
    how far it is, (B,), in standard deviations of the posterior or, where there is none, of the codes of known images.
    """

    code: Code
    redrawn: Tensor
    z: Tensor
    pixels: Tensor
    aimed: Tensor
    reached: Tensor
    distance: Tensor


def imagine(
    decision: Decision,
    x: Tensor,
    decided: Tensor,
    references: References | None,
    targets: int,
    confidence: float,
    steps: int,
) -> Imagined:
    """Move the code of each image, (B, C, H, W), until it is not `decided`, (B,), any more.

    `targets`: how many of the most probable other classes are aimed at; `confidence`: the probability to reach.
    """
    size = (x.shape[2], x.shape[3])
    with torch.no_grad():
        code = decision.drawing.encode(x)
        others = decision.logits(x).scatter(1, decided[:, None], -torch.inf)
        aimed = others.topk(min(targets, others.shape[1] - 1), 1).indices
        redrawn = decision.draw(code.z, code.grid, size)
    if references is not None and not references.fits(code.z.shape[1:]):
        references = None
    count = aimed.shape[1]
    every = Problem(
        code.z.repeat_interleave(count, 0), code.grid, size, aimed.flatten(), _scale(code, references, count)
    )
    at_once = max(1, TOGETHER // x[0].numel())
    solved = []
    for part in torch.split(torch.arange(len(every.target), device=x.device), at_once):
        problem = Problem(every.origin[part], every.grid, size, every.target[part], every.scale[part])
        start = across(decision, problem, confidence)
        if references is not None:
            start = _towards_known(problem, references, start)
        solved.append(move(decision, problem, start, confidence, steps))
    moved = Moved(*(torch.cat([getattr(part, name) for part in solved]) for name in ("z", "gap", "distance")))
    # The nearest that was reached; where none was, the one that lacks least.
    rank = torch.where(moved.reached, moved.distance, FARTHEST * (1 + moved.gap)).view(len(x), count)
    best = rank.argmin(1) + count * torch.arange(len(x), device=x.device)
    with torch.no_grad():
        pixels = decision.draw(moved.z[best], code.grid, size)
    return Imagined(
        code, redrawn, moved.z[best], pixels, aimed.flatten()[best], moved.reached[best], moved.distance[best]
    )


def _scale(code: Code, references: References | None, count: int) -> Tensor:
    """The units of distance, (B·count, N, D)."""
    if code.scale is not None:
        return code.scale.repeat_interleave(count, 0)
    if references is not None:
        scale = torch.from_numpy(references.spread).to(code.z)
    else:
        scale = code.z.square().mean().sqrt().clamp_min(1e-6).expand(code.z.shape[1:])
    return scale.expand(len(code.z) * count, *code.z.shape[1:])


def _towards_known(problem: Problem, references: References, otherwise: Tensor) -> Tensor:
    """The codes of the nearest known images that are decided as aimed at, (P, N, D)."""
    start = otherwise.clone()
    for p, wanted in enumerate(problem.target.tolist()):
        origin, scale = problem.origin[p].cpu().numpy(), problem.scale[p].cpu().numpy()
        row = references.nearest_decided(origin, scale, wanted)
        if row is not None:
            start[p] = torch.from_numpy(references.codes[row]).to(start)
    return start
