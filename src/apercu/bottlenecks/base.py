"""The contract of a bottleneck: features to a code, and what the code costs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

from torch import Tensor, nn

from apercu.types import Code, Grid


@dataclass(frozen=True)
class Health:
    """How a bottleneck is used: named measures, one number per dimension or symbol, and warnings in words."""

    measures: dict[str, float]
    per_dimension: list[float] = field(default_factory=list)
    quantity: str = ""
    warnings: list[str] = field(default_factory=list)


class Bottleneck(nn.Module, ABC):
    """(B, N, F) → Code; acts on the last dimension, so any bottleneck fits any encoder.

    `dim`: D, the features of a token of the code; `differentiates_input`: its cost needs gradients with respect to
    the pixels, so that even an evaluation must record them.
    """

    dim: int
    differentiates_input: bool = False

    @abstractmethod
    def forward(self, features: Tensor, grid: Grid, x: Tensor, noise: bool) -> Code:
        """Make the code.

        Args:
            features: (B, N, F).
            grid: (h, w), h·w = N.
            x: (B, C, H, W), the pixels that the features were computed from.
            noise: whether a stochastic code is drawn (training) or its mean is taken.
        """

    @abstractmethod
    def health(self, code: Code) -> Health:
        """What the codes of many images say about the use of this bottleneck."""


def spread_health(mean: Tensor) -> Health:
    """Active units of a code: Var over images and tokens of each dimension, (B, N, D) → Health.

    A unit is active where its variance exceeds 1 % of the mean variance (after Burda, Grosse and Salakhutdinov, 2016).
    """
    variance = mean.flatten(0, 1).var(0, unbiased=False)
    active = (variance > 0.01 * variance.mean().clamp_min(1e-12)).sum().item()
    warnings = []
    if variance.max() < 1e-8:
        warnings.append(
            "the code has collapsed: every image gets the same code. "
            "Lower the learning rate, or weaken the penalty on the code."
        )
    return Health(
        {"active_units": float(active), "units": float(mean.shape[-1])},
        variance.tolist(),
        "variance",
        warnings,
    )
