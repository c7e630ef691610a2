"""The contract of a bottleneck: features to a code, and what the code costs."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import Tensor, nn

from apercu.types import Code, Grid


@dataclass(frozen=True)
class Use:
    """How one symbol of a token is used: the share of tokens that each of its values has."""

    shares: list[float]

    @property
    def used(self) -> int:
        """Values that at least one token has."""
        return sum(share > 0 for share in self.shares)

    @property
    def dead(self) -> int:
        """Values that no token has."""
        return len(self.shares) - self.used

    @property
    def bits(self) -> float:
        """Entropy of the shares: what an entropy coder spends on this symbol."""
        return -sum(share * math.log2(share) for share in self.shares if share > 0)

    @property
    def perplexity(self) -> float:
        """Among how many values an even choice would be as varied."""
        return math.exp2(self.bits)


@dataclass(frozen=True)
class Health:
    """How a bottleneck is used: named measures, one number per dimension or symbol, and warnings in words.

    `symbols`: the use of each symbol of a token, where the code has symbols.
    """

    measures: dict[str, float]
    per_dimension: list[float] = field(default_factory=list)
    quantity: str = ""
    warnings: list[str] = field(default_factory=list)
    symbols: list[Use] = field(default_factory=list)


class Bottleneck(nn.Module, ABC):
    """(B, N, F) → Code; acts on the last dimension, so any bottleneck fits any encoder.

    `dim`: D, the features of a token of the code; `alphabet`: how many values each of the S symbols of a token has, and
    empty where a code has no symbols; `differentiates_input`: its cost needs gradients with respect to the pixels, so
    that even an evaluation must record them.
    """

    dim: int
    alphabet: tuple[int, ...] = ()
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


class Quantizer(Bottleneck, ABC):
    """A bottleneck whose code is S symbols a token, and is read back from them bit for bit.

    In an evaluation z = `from_symbols(code.symbols)`, so that a decoder sees the same code from a file. Symbols are
    (B, N, S) int64, the one at position s in [0, alphabet[s]).
    """

    @abstractmethod
    def to_symbols(self, z: Tensor) -> Tensor:
        """The symbols of the code next to any z, (B, N, D) → (B, N, S)."""

    @abstractmethod
    def from_symbols(self, symbols: Tensor) -> Tensor:
        """The code that symbols stand for, (B, N, S) → (B, N, D)."""

    @abstractmethod
    def pmf(self) -> tuple[Tensor, ...]:
        """For each of the S symbols how probable its values are, (alphabet[s],): all above 0, their sum 1."""

    @abstractmethod
    def advice(self, symbols: Sequence[Use], tokens: int) -> list[str]:
        """What is wrong with this use of the symbols over so many tokens, what was done about it, and what to do."""

    def quantise(self, z: Tensor) -> Tensor:
        """The code next to any z, (B, N, D) → the same shape."""
        return self.from_symbols(self.to_symbols(z))

    @torch.no_grad()
    def health(self, code: Code) -> Health:
        """Use of the symbols, their perplexity (geometric mean over positions) and the bits in all S of a token."""
        if code.symbols is None:
            raise TypeError("the code of a quantizer has symbols")
        counts = torch.split(count_symbols(code.symbols, self.alphabet), list(self.alphabet))
        uses = [Use((count / count.sum()).tolist()) for count in counts]
        bits = [use.bits for use in uses]
        used = sum(use.used for use in uses)
        measures = {
            "perplexity": 2.0 ** (sum(bits) / len(bits)),
            "codes_used": float(used),
            "codebook_use": used / sum(self.alphabet),
            "bits": sum(bits),
        }
        bars, quantity = (uses[0].shares, "share of tokens") if len(uses) == 1 else (bits, "bits")
        return Health(measures, bars, quantity, self.advice(uses, code.symbols[..., 0].numel()), uses)


def straight_through(value: Tensor, path: Tensor) -> Tensor:
    """`value` forwards, exactly; backwards the gradient passes to `path`, of the same shape.

    Bengio, Léonard and Courville, "Estimating or propagating gradients through stochastic neurons" (2013).
    """
    return value.detach() + (path - path.detach())


def count_symbols(symbols: Tensor, alphabet: tuple[int, ...]) -> Tensor:
    """How often each value of each symbol occurs, one symbol after the other: (B, N, S) → (Σ alphabet,) float32."""
    first = torch.tensor([0, *alphabet[:-1]], device=symbols.device).cumsum(0)
    return torch.bincount((symbols + first).flatten(), minlength=sum(alphabet)).float()


def shares(usage: Tensor, alphabet: tuple[int, ...]) -> tuple[Tensor, ...]:
    """Counts as probabilities, (Σ alphabet,) → (alphabet[s],) each; a thousandth is spread evenly: none is 0."""
    return tuple(0.999 * part / part.sum() + 0.001 / len(part) for part in torch.split(usage, list(alphabet)))


def add_processes(*values: Tensor) -> None:
    """Replace the tensors by their sums over all processes that train together."""
    if dist.is_available() and dist.is_initialized():
        for value in values:
            dist.all_reduce(value)


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
