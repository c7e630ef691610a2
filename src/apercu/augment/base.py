"""What every operation is, and how it draws its amounts: one for each image, and smooth fields."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class Op(ABC):
    """A change of a whole batch, by another amount for each image.

    The floats among an operation's fields are its largest amounts, in both directions where nothing else is said; they
    grow with the strength, and at 0 nothing changes. Whole numbers and words say how the change is made.
    """

    @abstractmethod
    def __call__(self, x: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] → the same shape and range."""

    def scaled(self, strength: float) -> Self:
        """The same operation, `strength` times as strong."""
        amounts = {field.name: _scaled(getattr(self, field.name), strength) for field in dataclasses.fields(self)}
        return dataclasses.replace(self, **amounts)

    def __str__(self) -> str:
        default = {field.name: field.default for field in dataclasses.fields(self)}
        amounts = {name: getattr(self, name) for name in default if getattr(self, name) != default[name]}
        words = (
            f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in amounts.items()
        )
        return f"{type(self).__name__.lower()} {', '.join(words)}"


def _scaled(value: Any, strength: float) -> Any:  # noqa: ANN401 - a field of any type
    if isinstance(value, tuple):
        return tuple(op.scaled(strength) for op in value)
    return value * strength if isinstance(value, float) else value


@dataclass(frozen=True)
class OneOf(Op):
    """Each image gets one of these operations, all of them equally often (after RandAugment, Cubuk et al., 2020).

    The batch is shared out among them, so that all together take the time of one.
    """

    ops: tuple[Op, ...]

    def __call__(self, x: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] → the same shape and range."""
        return shared_out(x, self.ops)

    def __str__(self) -> str:
        return f"one of ({'; '.join(map(str, self.ops))})"


def shared_out(x: Tensor, ops: Sequence[Callable[[Tensor], Tensor]]) -> Tensor:
    """What one of `ops` makes of each image, (B, C, H, W) → the same shape; all of them equally often."""
    # Up to a few slots more than images: each operation has as many, and each image any of them.
    each = -(-len(x) // len(ops))
    slots = torch.randperm(each * len(ops), device=x.device)
    parts = x[slots % len(x)].chunk(len(ops))
    done = torch.cat([op(part) for op, part in zip(ops, parts, strict=True)])
    return done[slots.argsort()[: len(x)]]


def draw(x: Tensor, largest: float) -> Tensor:
    """An even draw from [−largest, largest] for each image, (B, 1, 1, 1)."""
    return (2 * torch.rand(len(x), 1, 1, 1, device=x.device) - 1) * largest


def mean_and_spread(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each image's values, (B, 1, 1, 1) each."""
    mean = x.mean((1, 2, 3), keepdim=True)
    square = torch.linalg.vector_norm(x, dim=(1, 2, 3), keepdim=True).square() / x[0].numel()
    return mean, (square - mean.square()).clamp(min=0).sqrt()


def smooth_field(x: Tensor, cells: int) -> Tensor:
    """A smooth random surface with values in [−1, 1] for each image, (B, 1, H, W).

    f(u, v) = Σ_ij c_ij · B_i(u) · B_j(v), c_ij ~ U(−1, 1), with cubic B-splines over cells × cells squares.
    """
    height, width = x.shape[2:]
    knots = torch.rand(len(x), 1, cells + 3, cells + 3, device=x.device) * 2 - 1
    return splines(height, cells, x.device) @ knots @ splines(width, cells, x.device).T


def splines(count: int, cells: int, device: torch.device) -> Tensor:
    """Weights of cells + 3 cubic B-splines at the middle of each of `count` pixels, (count, cells + 3).

    Knot k stands at the share (k − 1) / cells of the side. Each row sums to 1, and straight lines are kept.
    """
    place = (torch.arange(count, device=device) + 0.5) * (cells / count)
    distance = (place[:, None] - torch.arange(-1, cells + 2, device=device)).abs()
    near = 4 - 6 * distance**2 + 3 * distance**3
    return torch.where(distance < 1, near, (2 - distance).clamp(min=0) ** 3) / 6
