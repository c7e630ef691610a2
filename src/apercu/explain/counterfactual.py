"""The nearest image that the model can draw and would decide otherwise.

    min over z of  ‖(z − z₀) / s‖²   so that   p(k | decode(z)) ≥ c

for every class k that is aimed at: the decision is that about the decoded image, encoded again, and not about z alone.
s is the standard deviation of the posterior q(z | x), where there is one, so that distances are measured in what the
encoder cannot tell apart. The constraint is a hinge on the log-odds of k whose weight rises while it is violated and
falls while it holds; the nearest code at which it held is kept. Every image and every class is a problem of its own,
and all are solved together.

Wachter, Mittelstadt and Russell, "Counterfactual explanations without opening the black box" (2018), in the code of an
autoencoder as Joshi et al., "Towards realistic individual recourse" (2019).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from apercu.explain.decision import Decision, log_odds
from apercu.types import Grid

STEPS_ALONG = 10
RATE, TIGHTEN = 0.05, 1.1


@dataclass(frozen=True)
class Problem:
    """P codes to move, (P, N, D), their images' grid and size, the classes aimed at, (P,), and where to start from.

    `scale`: (P, N, D), the units of distance.
    """

    origin: Tensor
    grid: Grid
    size: tuple[int, int]
    target: Tensor
    scale: Tensor

    def distance(self, z: Tensor) -> Tensor:
        """‖(z − z₀) / s‖, (P, N, D) → (P,)."""
        return ((z - self.origin) / self.scale).flatten(1).square().sum(1).sqrt()


@dataclass(frozen=True)
class Moved:
    """Codes (P, N, D), and of each, (P,), how much log-odds it lacks and how far it is from where it was.

    One that lacks nothing is the nearest that was found; another the one that lacks least.
    """

    z: Tensor
    gap: Tensor
    distance: Tensor

    @property
    def reached(self) -> Tensor:
        """Whether each is decided as it was aimed at, (P,)."""
        return self.gap <= 0


def move(decision: Decision, problem: Problem, start: Tensor, confidence: float, steps: int) -> Moved:
    """Solve the problem from `start`, (P, N, D), such as codes of the nearest images of the classes aimed at."""
    needed = torch.tensor(confidence).logit().item()
    begin = _nearest_on_the_way(decision, problem, start, needed)
    # In units of the way to the start, steps and penalties mean the same for every model.
    unit = problem.scale * (problem.distance(begin) / problem.origin[0].numel() ** 0.5).clamp_min(1e-6)[:, None, None]
    moves = ((begin - problem.origin) / unit).requires_grad_()
    optimiser = torch.optim.Adam([moves], RATE)
    weight = torch.ones(len(moves), device=moves.device)
    best, least = begin.clone(), torch.full_like(weight, torch.inf)
    nearest = torch.full_like(weight, torch.inf)
    for _ in range(max(1, steps)):
        z = decision.settled(problem.origin + moves * unit)
        gap = needed - decision.odds(decision.draw(z, problem.grid, problem.size), problem.target)
        far = ((z - problem.origin) / unit).square().flatten(1).mean(1)
        with torch.no_grad():
            holds, lacks = gap <= 0, gap.clamp_min(0)
            better = (lacks < least) | (holds & (far < nearest))
            best[better], least[better] = z[better], lacks[better]
            nearest = torch.where(holds & better, far, nearest)
        (moves.grad,) = torch.autograd.grad((far + weight * gap.relu()).sum(), moves)
        optimiser.step()
        weight = torch.where(holds, weight / TIGHTEN, weight * TIGHTEN)
    return Moved(best, least, problem.distance(best))


@torch.no_grad()
def _nearest_on_the_way(decision: Decision, problem: Problem, start: Tensor, needed: float) -> Tensor:
    """The first of ten codes on the straight way to `start` that is decided as aimed at; the start where none is."""
    found = start.clone()
    for share in reversed(range(1, STEPS_ALONG)):
        z = decision.settled(problem.origin + share / STEPS_ALONG * (start - problem.origin))
        odds = decision.odds(decision.draw(z, problem.grid, problem.size), problem.target)
        found[odds >= needed] = z[odds >= needed]
    return found


def across(decision: Decision, problem: Problem, confidence: float) -> Tensor:
    """Where a linear decision would change, (P, N, D): a start where no image of the class aimed at is known.

    Moosavi-Dezfooli, Fawzi and Frossard, "DeepFool" (2016).
    """
    z = problem.origin.clone().requires_grad_()
    logits = decision.logits(decision.draw(decision.settled(z), problem.grid, problem.size))
    odds = log_odds(logits, problem.target)
    (slope,) = torch.autograd.grad(odds.sum(), z)
    slope = slope * problem.scale
    gap = (torch.tensor(confidence).logit() - odds.detach()).clamp_min(0.1)
    length = gap / slope.flatten(1).square().sum(1).clamp_min(1e-12)
    return problem.origin + problem.scale * slope * length[:, None, None]
