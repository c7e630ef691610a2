"""How the code of a model is written as symbols: those that a quantizer chose, or rounded numbers of any other code."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from apercu.api import Model
from apercu.bottlenecks.base import Quantizer
from apercu.bottlenecks.rated import Rated
from apercu.codec.coding import Integers
from apercu.data.images import ImageSet
from apercu.errors import ApercuError
from apercu.model import Autoencoder
from apercu.types import Code

LOSS = 1.02
"""How much larger rounding may make the mean squared error of the reconstruction: less than 0.1 dB."""
ASTRAY = 0.01
"""How far rounding may move what the label head says, where there is one, in nats: less than one answer in a hundred
changes."""
LARGEST, SMALLEST = 4.0, 2.0**-8
SAMPLE = 500
MOST = 1 << 12


class Symbols(Protocol):
    """S symbols for each token, `alphabet[s]` values for the one at position s."""

    @property
    def alphabet(self) -> tuple[int, ...]:
        """How many values each symbol has."""

    def of(self, code: Code) -> Tensor:
        """The symbols of a code, (B, N, S) int64."""

    def code(self, symbols: Tensor, quality: float = 0) -> Tensor:
        """The code of symbols, (B, N, D); `quality`: where they were made, for a model that has several."""

    def on(self, network: Autoencoder) -> Symbols:
        """The same for a copy of the network."""


def symbols_of(code: Code) -> Tensor:
    """The symbols that a quantizer chose, (B, N, S)."""
    if code.symbols is None:
        raise TypeError("the code of a quantizer has symbols")
    return code.symbols


@dataclass(frozen=True)
class Chosen:
    """The symbols of a quantizer."""

    bottleneck: Quantizer

    @property
    def alphabet(self) -> tuple[int, ...]:
        """As the quantizer has it."""
        return self.bottleneck.alphabet

    def of(self, code: Code) -> Tensor:
        """The symbols that it chose, (B, N, S)."""
        return symbols_of(code)

    def code(self, symbols: Tensor, quality: float = 0) -> Tensor:
        """(B, N, S) → (B, N, D), equal bit for bit to what it gave the decoder."""
        return self.bottleneck.from_symbols(symbols)

    def on(self, network: Autoencoder) -> Symbols:
        """With the quantizer of the copy."""
        return chosen(network) or self


@dataclass(frozen=True, eq=False)
class Graded:
    """The symbols of a quantizer with several qualities, within what its training images need.

    `low`, `count`: the smallest symbol and how many there are, (D,) int64; what lies outside is clamped.
    """

    bottleneck: Rated
    low: Integers
    count: Integers

    @property
    def alphabet(self) -> tuple[int, ...]:
        """As many values as the training images have, and a few more."""
        return tuple(self.count.tolist())

    def of(self, code: Code) -> Tensor:
        """(B, N, D) int64."""
        symbols = symbols_of(code)
        low, count = (torch.from_numpy(values).to(symbols.device) for values in (self.low, self.count))
        return (symbols - low).clamp_min(0).minimum(count - 1)

    def code(self, symbols: Tensor, quality: float = 0) -> Tensor:
        """(B, N, D) → (B, N, D)."""
        with self.bottleneck.at(quality or self.bottleneck.quality):
            return self.bottleneck.from_symbols(symbols + torch.from_numpy(self.low).to(symbols.device))

    def on(self, network: Autoencoder) -> Symbols:
        """With the quantizer of the copy."""
        return replace(self, bottleneck=network.bottleneck) if isinstance(network.bottleneck, Rated) else self


def chosen(network: Autoencoder) -> Chosen | None:
    """The symbols of a network whose bottleneck has some."""
    return Chosen(network.bottleneck) if isinstance(network.bottleneck, Quantizer) else None


@dataclass(frozen=True, eq=False)
class Rounded:
    """k = round(z / Δ) − low, one symbol for each dimension of a code that has none of its own.

    `step`: Δ, (D,) float32; `low`, `count`: the smallest number and how many there are, (D,) int64; what lies outside
    is clamped.
    """

    step: NDArray[np.float32]
    low: NDArray[np.int64]
    count: NDArray[np.int64]

    @property
    def alphabet(self) -> tuple[int, ...]:
        """As many values as the training images have, and a few more."""
        return tuple(self.count.tolist())

    def of(self, code: Code) -> Tensor:
        """(B, N, D) → (B, N, D) int64."""
        z = code.mean
        symbols = (z / self._on(self.step, z)).round().long() - self._on(self.low, z)
        return symbols.clamp_min(0).minimum(self._on(self.count, z) - 1)

    def code(self, symbols: Tensor, quality: float = 0) -> Tensor:
        """(B, N, D) → (B, N, D)."""
        return (symbols + self._on(self.low, symbols)) * self._on(self.step, symbols)

    def on(self, network: Autoencoder) -> Symbols:
        """Itself: its steps are no part of a network."""
        return self

    def _on(self, values: NDArray[np.generic], like: Tensor) -> Tensor:
        return torch.from_numpy(values).to(like.device)


def learn_rounding(model: Model, images: ImageSet) -> Rounded:
    """The coarsest steps that the reconstruction hardly suffers from, and the answers of the label head.

    A step is a multiple of the posterior's standard deviation where there is one, else of the code's own.

    Raises:
        ApercuError: the code says nothing, or too much to be rounded.
    """
    outputs = list(model.outputs(images.subset(np.arange(min(len(images), SAMPLE))), decode=False))
    codes = [output.code for _, output in outputs]
    means = torch.cat([code.mean.flatten(0, 1) for code in codes]).double()
    scales = [code.scale.flatten(0, 1) for code in codes if code.scale is not None]
    unit = torch.cat(scales).double().square().mean(0).sqrt() if scales else means.std(0).square().mean().sqrt()
    unit = unit.expand(means.shape[1])
    batch, output = outputs[0]
    size = (batch.x.shape[2], batch.x.shape[3])

    def error(z: Tensor) -> float:
        with torch.no_grad():
            return float((model.network.decode(z, output.code.grid, size).mean - batch.x).square().mean())

    exact, share = error(output.code.mean), LARGEST
    while True:
        rounded = _rounded(means, share * unit)
        z = rounded.code(rounded.of(output.code))
        if error(z) <= LOSS * exact and _astray(model, output.code, z) <= ASTRAY:
            return rounded
        share /= 2
        if share < SMALLEST:
            raise ApercuError(
                "the code of this model cannot be rounded without loss; train a model whose code has symbols, "
                "such as --preset vqvae"
            )


@torch.no_grad()
def _astray(model: Model, code: Code, z: Tensor) -> float:
    """KL(p(class | code) ‖ p(class | z)) by the label head, the mean in nats; 0 where there is none."""
    if "label" not in model.network.heads:
        return 0.0
    head = model.network.heads["label"]
    before, after = (head(replace(code, z=values, mean=values)).log_softmax(1) for values in (code.mean, z))
    return float((before.exp() * (before - after)).sum(1).mean())


def _rounded(means: Tensor, step: Tensor) -> Rounded:
    """Numbers in these steps."""
    step = step.clamp_min(1e-12).float()
    numbers = (means / step.to(means.device)).round()
    return Rounded(
        step.cpu().numpy(), *bounds(numbers.amin(0).long().cpu().numpy(), numbers.amax(0).long().cpu().numpy())
    )


def bounds(low: Integers, high: Integers) -> tuple[Integers, Integers]:
    """The smallest number and how many there are, (D,), for what lies from `low` to `high` and an eighth more."""
    margin = (high - low + 7) // 8
    return low - margin, np.minimum(high - low + 1 + 2 * margin, MOST)
