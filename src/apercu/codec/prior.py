"""The learnt prior of a model's symbols: a small network in whole numbers, so that every machine computes the same.

    h = E_cell(n) + Σ_k E_k[symbols of neighbour k] + Σ_{t<s} E_t[symbol t of this token] + E_quality
    P(symbol s of token n) ∝ exp(b_s + max(h, 0) · W_s)

Symbols are read in an order in which a token's neighbours on the left and above are known. The sum over what is known
is that of NADE (Larochelle and Murray, "The neural autoregressive distribution estimator", 2011). E, W are 16-bit
integers in units of 1/256 and b 32-bit in units of 1/65536; sums of their products stay below 2⁵³, where double
precision is exact in any order of addition. The exponential is a table of whole numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from apercu.codec.coders import Decoders, Encoders, decoders, encoders
from apercu.codec.coding import TOTAL, Integers, weigh
from apercu.codec.exact import exponential
from apercu.codec.quality import EIGHTHS
from apercu.errors import FormatError
from apercu.types import Grid

REACH = ((0, -1), (-1, 0), (-1, -1), (-1, 1), (0, -2), (-2, 0))
"""Neighbours of a token as (rows down, columns right), the nearest first."""
SIDE = 8
"""The grid of a code, of whatever size, is seen as SIDE × SIDE cells."""
FRACTION = 256
"""Steps of a unit of E and W, and of the table of the exponential."""
CHUNK = 1 << 18
"""Weights that are worked out at once, at most."""
Reals = NDArray[np.floating[Any]]
Exchange = Callable[[Integers, Integers], Integers]


@dataclass(frozen=True)
class Layout:
    """Where the rows of E stand: cells, then what each neighbour says, the earlier symbols of the token, the qualities.

    `alphabet`: how many values each of the S symbols of a token has; `neighbours`: how many of `REACH` are asked;
    `earlier`: whether the earlier symbols of the same token are; `qualities`: how many rows there are for operating
    points, from the lowest on, one `every` so many eighths of a quality.
    """

    alphabet: tuple[int, ...]
    neighbours: int
    earlier: bool
    qualities: int = 0
    every: int = EIGHTHS

    @cached_property
    def outside(self) -> Integers:
        """The symbols of a token outside the grid, (S,)."""
        return np.array(self.alphabet, np.int64)

    @cached_property
    def beside(self) -> Integers:
        """The first row of each symbol of each neighbour, (neighbours, S); it has a row more, for outside."""
        lengths = np.tile(self.outside + 1, self.neighbours)
        return (SIDE**2 + np.cumsum(lengths) - lengths).reshape(self.neighbours, len(self.alphabet))

    @cached_property
    def before(self) -> Integers:
        """The first row of each symbol of the token itself, (S,)."""
        start = SIDE**2 + self.neighbours * int((self.outside + 1).sum())
        return start + np.cumsum(self.outside) - self.outside

    @property
    def graded(self) -> int:
        """The row of the first quality; nothing comes after the last symbol of a token."""
        return int(self.before[-1] if self.earlier else self.before[0])

    @property
    def rows(self) -> int:
        """How many rows E has."""
        return self.graded + self.qualities

    @cached_property
    def columns(self) -> list[slice]:
        """The columns of W and b that belong to each symbol."""
        ends = np.cumsum(self.outside).tolist()
        return [slice(end - count, end) for end, count in zip(ends, self.alphabet, strict=True)]

    def row(self, point: int) -> int:
        """The row of the operating point that is nearest to this one."""
        return self.graded + min(max(0, point - EIGHTHS + self.every // 2) // self.every, self.qualities - 1)

    def known(self, padded: Integers, i: Integers, j: Integers, grid: Grid, point: int = 0) -> Integers:
        """The rows of E that tell of tokens at (i, j), each (T,), before their own symbols: (B, T, 1 + neighbours·S),
        and one more where there are qualities.

        `padded`: (B, h + 2, w + 4, S), the grid with two rows above it and two columns on either side.
        """
        cells = (i * SIDE // grid[0]) * SIDE + j * SIDE // grid[1]
        parts = [np.broadcast_to(cells[:, None], (len(padded), len(i), 1))]
        for first, (down, right) in zip(self.beside, REACH, strict=False):
            parts.append(padded[:, i + 2 + down, j + 2 + right] + first)
        if self.qualities:
            parts.append(np.full((len(padded), len(i), 1), self.row(point)))
        return np.concatenate(parts, -1)

    def frame(self, count: int, grid: Grid) -> Integers:
        """An empty grid with its margins for each of `count` images: (B, h + 2, w + 4, S)."""
        return np.tile(self.outside, (count, grid[0] + 2, grid[1] + 4, 1))

    def steps(self, grid: Grid) -> Iterator[tuple[Integers, Integers]]:
        """Positions (i, j) that may be read together, in order: those with the same 2·i + j know their neighbours."""
        i, j = (axis.ravel() for axis in np.indices(grid))
        if not self.neighbours:
            yield i, j
            return
        time = 2 * i + j
        order = np.argsort(time, kind="stable")
        for together in np.split(order, np.flatnonzero(np.diff(time[order])) + 1):
            yield i[together], j[together]

    def run(self, grid: Grid) -> float:
        """How many positions `steps` gives at a time, on average."""
        return grid[0] * grid[1] / (grid[1] + 2 * (grid[0] - 1)) if self.neighbours else grid[0] * grid[1]


@dataclass(frozen=True, eq=False)
class Prior:
    """P(symbols), in whole numbers.

    `alphabet`: (S,) int64; `context`: (2,) to (4,) int64, how many neighbours are asked, whether earlier symbols are,
    how many rows there are for operating points, and how many eighths from one to the next;
    `rows`: E, (rows, R) int16; `columns`: W, (R, Σ alphabet) int16; `bias`: b, (Σ alphabet,) int32.
    """

    alphabet: Integers
    context: Integers
    rows: NDArray[np.int16]
    columns: NDArray[np.int16]
    bias: NDArray[np.int32]

    def __post_init__(self) -> None:
        total, rank = int(self.alphabet.sum()), self.columns.shape[0]
        right = {"rows": (self.layout.rows, rank), "columns": (rank, total), "bias": (total,)}
        if any(getattr(self, name).shape != shape for name, shape in right.items()):
            raise FormatError("the tables of the prior do not fit each other")

    @cached_property
    def layout(self) -> Layout:
        """Where the rows stand."""
        neighbours, earlier, *rows = self.context.tolist()
        return Layout(tuple(self.alphabet.tolist()), neighbours, bool(earlier), *rows)

    def tensors(self) -> dict[str, NDArray[np.generic]]:
        """What it consists of, by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def encode(self, symbols: Integers, point: int = 0) -> list[bytes]:
        """The stream of each image, from symbols (B, h, w, S).

        Raises:
            ValueError: a symbol outside its alphabet.
        """
        grid = (symbols.shape[1], symbols.shape[2])
        coders = encoders(len(symbols), self.layout.run(grid))
        self.write(coders, symbols, point)
        return coders.finish(math.prod(symbols.shape[1:]))

    def decode(self, streams: Sequence[bytes], grid: Grid, point: int = 0) -> Integers:
        """Symbols (B, h, w, S) from the stream of each image.

        Raises:
            FormatError: a stream that this prior did not write.
        """
        return self.read(decoders(streams, self.layout.run(grid)), len(streams), grid, point)

    def write(self, coders: Encoders, symbols: Integers, point: int = 0) -> None:
        """The symbols of each image, (B, h, w, S), to its coder.

        Raises:
            ValueError: a symbol outside its alphabet.
        """
        if symbols.size and (symbols.min() < 0 or (symbols >= self.alphabet).any()):
            raise ValueError("a symbol lies outside its alphabet")

        def write(weights: Integers, values: Integers) -> Integers:
            coders.encode(values, weights)
            return values

        grid = (symbols.shape[1], symbols.shape[2])
        padded = self.layout.frame(len(symbols), grid)
        padded[:, 2:, 2:-2] = symbols
        self._walk(padded, grid, point, write)

    def read(self, coders: Decoders, count: int, grid: Grid, point: int = 0) -> Integers:
        """The symbols of each of `count` images, (B, h, w, S), from its coder.

        Raises:
            FormatError: a stream that this prior did not write.
        """
        padded = self.layout.frame(count, grid)
        self._walk(padded, grid, point, lambda weights, _: coders.decode(weights))
        return padded[:, 2:, 2:-2]

    def bits(self, symbols: Integers) -> NDArray[np.float64]:
        """−log₂ P of every symbol, given those that come before it in the stream: (B, h, w, S) → the same shape."""
        grid, layout = (symbols.shape[1], symbols.shape[2]), self.layout
        i, j = (axis.ravel() for axis in np.indices(grid))
        found = np.zeros((len(symbols), len(i), symbols.shape[3]))
        for image, own in enumerate(symbols):
            padded = layout.frame(1, grid)
            padded[0, 2:, 2:-2] = own
            h = self._sum(layout.known(padded, i, j, grid))
            for s, count in enumerate(layout.alphabet):
                value = own[..., s].reshape(1, -1)
                if count > 1:
                    weight = np.take_along_axis(self._weights(h, s), value[..., None], -1)[0, :, 0]
                    found[image, :, s] = np.log2(TOTAL) - np.log2(weight + 1)
                    if layout.earlier and s + 1 < len(layout.alphabet):
                        h += self._rows[layout.before[s] + value]
        return found.reshape(symbols.shape)

    def _walk(self, padded: Integers, grid: Grid, point: int, exchange: Exchange) -> None:
        """Visit every symbol in the order of the stream; `exchange(weights, values)` gives the values back."""
        layout = self.layout
        for i, j in layout.steps(grid):
            h = self._sum(layout.known(padded, i, j, grid, point))
            for s, count in enumerate(layout.alphabet):
                if count == 1:
                    padded[:, i + 2, j + 2, s] = 0
                    continue
                together = max(1, CHUNK // (len(padded) * count))
                for part in (slice(first, first + together) for first in range(0, len(i), together)):
                    place = (slice(None), i[part] + 2, j[part] + 2, s)
                    padded[place] = exchange(self._weights(h[:, part], s), padded[place])
                if layout.earlier and s + 1 < len(layout.alphabet):
                    h += self._rows[layout.before[s] + padded[:, i + 2, j + 2, s]]

    @cached_property
    def _rows(self) -> Reals:
        """E in single precision where all that is ever added stays below 2²⁴, and is therefore exact."""
        most = np.abs(self.rows.astype(np.int64)).max(initial=0) * (2 + len(self.alphabet) * (1 + int(self.context[0])))
        return self.rows.astype(np.float32 if most <= 1 << 24 else np.float64)

    @cached_property
    def _columns(self) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """W_s and b_s of each symbol, in double precision."""
        return [
            (self.columns[:, own].astype(np.float64), self.bias[own].astype(np.float64)) for own in self.layout.columns
        ]

    def _sum(self, known: Integers) -> Reals:
        """Σ of the rows of E that `Layout.known` names, (B, T, rows) → (B, T, R)."""
        rows, named = torch.from_numpy(self._rows), torch.from_numpy(known)
        found: Reals = F.embedding_bag(named.flatten(0, 1), rows, mode="sum").numpy()
        return found.reshape(*known.shape[:2], -1)

    def _weights(self, h: Reals, s: int) -> Integers:
        """The weights of symbol s for sums h, (…, R) → (…, alphabet[s])."""
        columns, bias = self._columns[s]
        logits = np.maximum(h, 0).astype(np.float64) @ columns + bias
        below = ((logits.max(-1, keepdims=True) - logits) / FRACTION).astype(np.int64)
        table = exponential()
        return weigh(table[np.minimum(below, len(table) - 1)])
