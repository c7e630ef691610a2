"""Symbols under a hyperprior: which table a symbol is written with is computed in whole numbers, the same everywhere.

    h ──► 3×3 convolutions, ReLU, doublings: int16 weights ──► (μ, ln σ) of each symbol ──► one of 64 × 8 tables

h is written first, under the prior that was learnt of it (`prior.py`), and the symbols in the order of their tables
(`ladder.py`), which are kept with the model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from apercu.bottlenecks._hyper import STRIDE, Hyper
from apercu.codec.coders import decoders, encoders
from apercu.codec.coding import Integers, weigh
from apercu.codec.ladder import (
    LADDER,
    LARGEST,
    PHASES,
    VALUE,
    WEIGHT,
    Reals,
    ladder,
    located,
    read,
    whole_biases,
    whole_weights,
    write,
)
from apercu.codec.prior import Prior
from apercu.errors import FormatError
from apercu.types import Grid

CHUNK = 1 << 22
Side = Callable[[Integers], Integers]
Arrays = Mapping[str, NDArray[np.generic]]


@dataclass(frozen=True, eq=False)
class Scales:
    """The synthesis of a hyperprior in whole numbers, and the tables that it chooses from.

    `weights`: (9·in, out) int16 of each layer; `biases`: (out,) int32; `tables`: (64·8, K) uint16, masses of
    −K//2 … K//2.
    """

    weights: tuple[NDArray[np.int16], ...]
    biases: tuple[NDArray[np.int32], ...]
    tables: NDArray[np.uint16]

    def __post_init__(self) -> None:
        follow = all(9 * a.shape[1] == b.shape[0] for a, b in pairwise(self.weights))
        alike = all(w.shape[1:] == b.shape for w, b in zip(self.weights, self.biases, strict=True))
        if not (follow and alike and self.weights and self.tables.shape[0] == LADDER * PHASES):
            raise FormatError("the tables of the hyperprior do not fit each other")

    @classmethod
    def of(cls, hyper: Hyper, reach: int) -> Scales:
        """Those of a network that was trained, for symbols from −reach to reach."""
        weights, biases = [], []
        for k in range(len(hyper.synthesis)):
            kernel = hyper.synthesis.get_parameter(f"{k}.weight")
            weights.append(whole_weights(kernel.permute(2, 3, 1, 0).flatten(0, 2)))  # rows, columns, in; out
            biases.append(whole_biases(hyper.synthesis.get_parameter(f"{k}.bias")))
        return cls(tuple(weights), tuple(biases), ladder(reach))

    @classmethod
    def read(cls, arrays: Arrays) -> Scales:
        """From what `arrays` gave.

        Raises:
            FormatError: they do not fit each other.
            KeyError: one is missing.
        """
        layers = range((len(arrays) - 1) // 2)
        kernels, offsets = ([arrays[f"{name}.{k}"] for k in layers] for name in ("weight", "bias"))
        return cls(
            tuple(kernel.astype(np.int16) for kernel in kernels),
            tuple(offset.astype(np.int32) for offset in offsets),
            arrays["tables"].astype(np.uint16),
        )

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """What it consists of, by name."""
        named: dict[str, NDArray[np.generic]] = {"tables": self.tables}
        for k, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            named |= {f"weight.{k}": weight, f"bias.{k}": bias}
        return named

    def choose(self, h: Integers, grid: Grid) -> tuple[Integers, Integers]:
        """The table of each symbol and its shift, each (B, h, w, D), from h, (B, ⌈h/4⌉, ⌈w/4⌉, M) around 0."""
        x = h.astype(np.float64) * VALUE
        for number, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if number:
                x = np.clip(np.floor(x / WEIGHT), 0, LARGEST).repeat(2, 1).repeat(2, 2)
            x = _convolve(x, weight.astype(np.float64), bias)
        mean, log_scale = np.split(x[:, : grid[0], : grid[1]], 2, axis=-1)
        return located(mean, log_scale)

    def run(self, grid: Grid) -> float:
        """How many symbols of an image come under a table, on average; at least, where some tables have none."""
        return grid[0] * grid[1] * len(self.biases[-1]) / 2 / len(self.tables)

    @cached_property
    def frequencies(self) -> Integers:
        """The weights of each table for the range coder, (64·8, K)."""
        return weigh(self.tables.astype(np.int64) << 8)


@dataclass(frozen=True, eq=False)
class Conditional:
    """Writes and reads symbols under a hyperprior.

    `prior`: that of h; `side`: what makes h of symbols, (B, h, w, D) around 0 → (B, ⌈h/4⌉, ⌈w/4⌉, M) from 0 on, which
    only the writer needs and which may differ from one machine to another.
    """

    scales: Scales
    prior: Prior
    side: Side
    reach: int

    def encode(self, symbols: Integers, point: int = 0) -> list[bytes]:
        """The stream of each image, from symbols (B, h, w, D) of 0 … 2·reach."""
        steps = symbols - self.reach
        h = self.side(steps)
        grid = (symbols.shape[1], symbols.shape[2])
        coders = encoders(len(steps), self.scales.run(grid))
        self.prior.write(coders, h, point)
        table, shift = self.scales.choose(self._centred(h), grid)
        write(coders, self.scales.frequencies, table, steps - shift + self.scales.tables.shape[1] // 2)
        return coders.finish(math.prod(steps.shape[1:]))

    def decode(self, streams: Sequence[bytes], grid: Grid, point: int = 0) -> Integers:
        """Symbols (B, h, w, D) from the stream of each image.

        Raises:
            FormatError: a stream that no encoder wrote with these tables.
        """
        coders = decoders(streams, self.scales.run(grid))
        coarse = (-(-grid[0] // STRIDE), -(-grid[1] // STRIDE))
        table, shift = self.scales.choose(self._centred(self.prior.read(coders, len(streams), coarse, point)), grid)
        values = read(coders, self.scales.frequencies, table)
        symbols: Integers = values - self.scales.tables.shape[1] // 2 + shift + self.reach
        if symbols.min() < 0 or symbols.max() > 2 * self.reach:
            raise FormatError("its symbols cannot be read")
        return symbols

    def _centred(self, h: Integers) -> Integers:
        return h - self.prior.alphabet // 2


def _convolve(x: Reals, weight: Reals, bias: NDArray[np.int32]) -> Reals:
    """A 3×3 convolution with a margin of zeros, (B, h, w, in) → (B, h, w, out), some rows at a time."""
    height, width = x.shape[1:3]
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    out = np.empty((*x.shape[:3], weight.shape[1]))
    rows = max(1, CHUNK // (len(x) * width * len(weight)))
    for top in range(0, height, rows):
        bottom = min(height, top + rows)
        shifted = [padded[:, top + i : bottom + i, j : j + width] for i in range(3) for j in range(3)]
        out[:, top:bottom] = np.concatenate(shifted, -1) @ weight + bias
    return out
