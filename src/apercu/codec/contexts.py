"""Symbols under their context: which table a symbol is written with is computed in whole numbers, the same everywhere.

    stage by stage: k so far ──► 3×3 convolution, ReLU, dense: int16 weights ──► (μ, ln σ) ──► one of 64 × 8 tables

The network is that of `bottlenecks/_context.py`; between two qualities its rows are mixed in eighths. The symbols of a
stage are written in the order of their tables (`ladder.py`), which are kept with the model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from apercu.bottlenecks._context import GROUPS, HIDDEN, SEEN, Context, Stage, stages
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
from apercu.codec.quality import EIGHTHS
from apercu.errors import FormatError
from apercu.types import Grid

CHUNK = 1 << 21
"""Numbers that are laid out for a product at once, at most."""
Arrays = Mapping[str, NDArray[np.generic]]
Seen = NDArray[np.int8]


@dataclass(frozen=True, eq=False)
class Contexts:
    """Writes and reads symbols stage by stage.

    `convolutions`: (9·known, H) int16 of each stage; `answers`: (H, 2·channels) int16; `levels`: (stages, Q, H) int32;
    `usual`: (Q, 2, D) int32; `tables`: (64·8, K) uint16, masses of −K//2 … K//2.
    """

    convolutions: tuple[NDArray[np.int16], ...]
    answers: tuple[NDArray[np.int16], ...]
    levels: NDArray[np.int32]
    usual: NDArray[np.int32]
    tables: NDArray[np.uint16]
    reach: int

    def __post_init__(self) -> None:
        own, count = self.stages, len(self.usual)
        fit = len(own) == len(self.convolutions) == len(self.answers)
        fit = fit and self.levels.shape == (len(own), count, HIDDEN) and self.tables.shape[0] == LADDER * PHASES
        for stage, kernel, answer in zip(own, self.convolutions, self.answers, strict=False):
            fit = fit and kernel.shape == (9 * stage.known, HIDDEN)
            fit = fit and answer.shape == (HIDDEN, 2 * (stage.stop - stage.start))
        if not fit or self.tables.shape[1] <= 2 * self.reach:
            raise FormatError("the tables of the context do not fit each other")

    @classmethod
    def of(cls, context: Context, reach: int) -> Contexts:
        """Those of a network that was trained, for symbols from −reach to reach."""
        kernels = [
            whole_weights(layer.get_parameter("weight").permute(2, 3, 1, 0).flatten(0, 2))
            if stage.known
            else np.empty((0, HIDDEN), np.int16)
            for stage, layer in zip(context.stages, context.convolutions, strict=True)
        ]
        answers = [whole_weights(layer.get_parameter("weight")[:, :, 0, 0].T) for layer in context.answers]
        levels, usual = whole_biases(context.levels), whole_biases(context.usual)
        return cls(tuple(kernels), tuple(answers), levels, usual, ladder(reach), reach)

    @classmethod
    def read(cls, arrays: Arrays, reach: int) -> Contexts:
        """From what `arrays` gave.

        Raises:
            FormatError: they do not fit each other.
            KeyError: one is missing.
        """
        numbers = range(sum(name.startswith("answer.") for name in arrays))
        kernels, answers = (
            tuple(arrays[f"{name}.{k}"].astype(np.int16) for k in numbers) for name in ("convolution", "answer")
        )
        levels, usual = (arrays[name].astype(np.int32) for name in ("levels", "usual"))
        return cls(kernels, answers, levels, usual, arrays["tables"].astype(np.uint16), reach)

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """What it consists of, by name."""
        named: dict[str, NDArray[np.generic]] = {"levels": self.levels, "usual": self.usual, "tables": self.tables}
        for k, (kernel, answer) in enumerate(zip(self.convolutions, self.answers, strict=True)):
            named |= {f"convolution.{k}": kernel, f"answer.{k}": answer}
        return named

    @cached_property
    def stages(self) -> list[Stage]:
        """In which order symbols are written."""
        return list(stages(self.usual.shape[2]))

    @cached_property
    def frequencies(self) -> Integers:
        """The weights of each table for the range coder, (64·8, K)."""
        return weigh(self.tables.astype(np.int64) << 8)

    def encode(self, symbols: Integers, point: int = 0) -> list[bytes]:
        """The stream of each image, from symbols (B, h, w, D) of 0 … 2·reach, at a point in eighths of a quality."""
        steps, half = symbols - self.reach, self.tables.shape[1] // 2
        coders = encoders(len(steps), self._run(steps.shape[1:3]))
        framed = _framed(steps)
        for number, stage in enumerate(self.stages):
            i, j = _cells(stage, steps.shape[1:3])
            table, shift = self._choose(number, framed, i, j, point)
            write(coders, self.frequencies, table, steps[:, i, j, stage.start : stage.stop] - shift + half)
        return coders.finish(math.prod(steps.shape[1:]))

    def decode(self, streams: Sequence[bytes], grid: Grid, point: int = 0) -> Integers:
        """Symbols (B, h, w, D) from the stream of each image.

        Raises:
            FormatError: a stream that no encoder wrote with these tables.
        """
        coders, half = decoders(streams, self._run(grid)), self.tables.shape[1] // 2
        steps = np.zeros((len(streams), *grid, self.usual.shape[2]), np.int64)
        framed = _framed(steps)
        for number, stage in enumerate(self.stages):
            i, j = _cells(stage, grid)
            table, shift = self._choose(number, framed, i, j, point)
            values = read(coders, self.frequencies, table) - half + shift
            if values.size and np.abs(values).max() > self.reach:
                raise FormatError("its symbols cannot be read")
            steps[:, i, j, stage.start : stage.stop] = values
            framed[:, i + 1, j + 1, stage.start : stage.stop] = values.clip(-SEEN, SEEN)
        return steps + self.reach

    def _run(self, grid: Sequence[int]) -> float:
        """How many symbols of an image come under a table, on average; at least, where some tables have none."""
        return math.prod((*grid, self.usual.shape[2])) / (2 * GROUPS) / len(self.tables)

    def _choose(self, number: int, framed: Seen, i: Integers, j: Integers, point: int) -> tuple[Integers, Integers]:
        """The table and the shift of every symbol of a stage at cells (i, j): (B, T, channels) each.

        `framed`: the symbols so far with a margin of zeros, (B, h + 2, w + 2, D); those of later stages are not looked
        at, wherever they are there already.
        """
        stage = self.stages[number]
        level, usual = self._at(self.levels[number], point), self._at(self.usual, point)[:, stage.start : stage.stop]
        together = max(1, CHUNK // (len(framed) * max(1, 9 * stage.known)))
        parts = [
            self._said(number, framed, i[first : first + together], j[first : first + together], level)
            for first in range(0, max(1, len(i)), together)  # a single token has no cell of the other colour
        ]
        mean, log_scale = np.split(np.concatenate(parts, 1), 2, axis=-1)
        return located(mean + usual[0], log_scale + usual[1])

    def _said(self, number: int, framed: Seen, i: Integers, j: Integers, level: Reals) -> Reals:
        stage = self.stages[number]
        if stage.known:
            nine = [framed[:, i + down, j + right, : stage.known] for down in range(3) for right in range(3)]
            around = np.stack(nine, 2).astype(np.float64)
            if stage.odd:  # beside a cell lie the other colour's, which are known, and across those of its own
                around[:, :, ::2, stage.start :] = 0
            sums = around.reshape(*around.shape[:2], 9 * stage.known) @ self._exact[number][0]
        else:
            sums = np.zeros((len(framed), len(i), HIDDEN))
        hidden = np.clip(np.floor((sums + level) / WEIGHT), 0, LARGEST)
        said: Reals = hidden @ self._exact[number][1]
        return said

    @cached_property
    def _exact(self) -> list[tuple[Reals, Reals]]:
        """The weights of each stage in double precision, those of the first layer in units of its sums."""
        both = zip(self.convolutions, self.answers, strict=True)
        return [(VALUE * kernel.astype(np.float64), answer.astype(np.float64)) for kernel, answer in both]

    def _at(self, rows: NDArray[np.int32], point: int) -> Reals:
        """Between the rows of the qualities below and above, in eighths: (Q, …) → (…)."""
        below, share = divmod(max(point, EIGHTHS) - EIGHTHS, EIGHTHS)
        below = min(below, len(rows) - 1)
        low, high = (rows[k].astype(np.int64) for k in (below, min(below + 1, len(rows) - 1)))
        mixed: Reals = ((low * (EIGHTHS - share) + high * share) // EIGHTHS).astype(np.float64)
        return mixed


def _framed(steps: Integers) -> Seen:
    """Symbols as they are seen, with a margin of zeros: (B, h, w, D) → (B, h + 2, w + 2, D)."""
    return np.pad(steps.clip(-SEEN, SEEN).astype(np.int8), ((0, 0), (1, 1), (1, 1), (0, 0)))


def _cells(stage: Stage, grid: Sequence[int]) -> tuple[Integers, Integers]:
    """Rows and columns of the cells of a stage."""
    i, j = np.nonzero(stage.cells((grid[0], grid[1])).numpy())
    return i, j
