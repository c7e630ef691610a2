"""Symbols under a hyperprior: which table a symbol is written with is computed in whole numbers, the same everywhere.

    h ──► 3×3 convolutions, ReLU, doublings: int16 weights ──► (μ, ln σ) of each symbol ──► one of 64 × 8 tables

h is written first, under the prior that was learnt of it (`prior.py`), and the symbols in the order of their tables.
Weights are in units of 1/4096, values of a layer in units of 1/1024 and below 2²⁴, so sums stay below 2⁵³, where double
precision is exact in any order. ln σ has 64 steps of ⅛, μ is rounded to ⅛ of a symbol; a table holds the logistic
distribution of one ln σ and one fraction of μ, and the whole part of μ shifts it. Tables are kept with the model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from apercu.bottlenecks._hyper import MEANS, SCALES, STRIDE, Hyper
from apercu.codec.coders import decoders, encoders
from apercu.codec.coding import Integers, weigh
from apercu.codec.prior import Prior
from apercu.errors import FormatError
from apercu.types import Grid

WEIGHT, VALUE, LARGEST = 4096, 1024, 1 << 24
LADDER, PHASES = 64, 8
EIGHTH = WEIGHT * VALUE // 8
"""An eighth, in the units of a layer's sums."""
MASS = 65535
CHUNK = 1 << 22
Reals = NDArray[np.float64]
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
        parameters = {name: value.detach().double().cpu() for name, value in hyper.synthesis.named_parameters()}
        for k in range(len(hyper.synthesis)):
            kernel = parameters[f"{k}.weight"].permute(2, 3, 1, 0).flatten(0, 2).numpy()  # rows, columns, in; out
            whole = np.clip(np.rint(kernel * WEIGHT), -32767, 32767).astype(np.int16)
            weights.append(np.ascontiguousarray(whole))  # any other order is lost when it is written
            bias = parameters[f"{k}.bias"].numpy() * (WEIGHT * VALUE)
            biases.append(np.clip(np.rint(bias), -(2**31) + 1, 2**31 - 1).astype(np.int32))
        farthest = reach + int(MEANS)
        values = np.arange(-farthest, farthest + 1)
        scales = np.exp(SCALES[0] + (np.arange(LADDER) + 0.5) / 8)[:, None, None]
        centred = values - (np.arange(PHASES) - PHASES // 2)[:, None] / PHASES
        masses = expit((centred + 0.5) / scales) - expit((centred - 0.5) / scales)
        return cls(tuple(weights), tuple(biases), np.rint(masses * MASS).astype(np.uint16).reshape(-1, len(values)))

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
        eighths = np.floor((mean + EIGHTH // 2) / EIGHTH).clip(-8 * MEANS, 8 * MEANS).astype(np.int64)
        shift = (eighths + PHASES // 2) // PHASES
        phase = eighths - PHASES * shift + PHASES // 2
        scale = np.floor(log_scale / EIGHTH - 8 * SCALES[0]).clip(0, LADDER - 1).astype(np.int64)
        return scale * PHASES + phase, shift

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

    def encode(self, symbols: Integers, quality: int = 0) -> list[bytes]:
        """The stream of each image, from symbols (B, h, w, D) of 0 … 2·reach."""
        steps = symbols - self.reach
        h = self.side(steps)
        grid = (symbols.shape[1], symbols.shape[2])
        coders = encoders(len(steps), self.scales.run(grid))
        self.prior.write(coders, h, quality)
        table, shift = self.scales.choose(self._centred(h), grid)
        order, tables = _in_order(table)
        values = (steps - shift + self.scales.tables.shape[1] // 2).reshape(tables.shape)
        coders.encode(np.take_along_axis(values, order, 1), self.scales.frequencies, tables)
        return coders.finish(math.prod(steps.shape[1:]))

    def decode(self, streams: Sequence[bytes], grid: Grid, quality: int = 0) -> Integers:
        """Symbols (B, h, w, D) from the stream of each image.

        Raises:
            FormatError: a stream that no encoder wrote with these tables.
        """
        coders = decoders(streams, self.scales.run(grid))
        coarse = (-(-grid[0] // STRIDE), -(-grid[1] // STRIDE))
        table, shift = self.scales.choose(self._centred(self.prior.read(coders, len(streams), coarse, quality)), grid)
        order, tables = _in_order(table)
        values = np.empty_like(tables)
        np.put_along_axis(values, order, coders.decode(self.scales.frequencies, tables), 1)
        symbols: Integers = values.reshape(shift.shape) - self.scales.tables.shape[1] // 2 + shift + self.reach
        if symbols.min() < 0 or symbols.max() > 2 * self.reach:
            raise FormatError("its symbols cannot be read")
        return symbols

    def _centred(self, h: Integers) -> Integers:
        return h - self.prior.alphabet // 2


def _in_order(table: Integers) -> tuple[Integers, Integers]:
    """The order in which the symbols of each image are written, that of their tables, and these tables: (B, h·w·D)."""
    flat = table.reshape(len(table), -1)
    order = flat.argsort(1, kind="stable")
    return order, np.take_along_axis(flat, order, 1)


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
