"""The range coders of many images, with the bytes that each image would have alone.

constriction codes one stream at a time and is called for each, which takes longer than the coding where streams are
short and many. There, one symbol of every image is coded in each step instead, as numbers of 64 bits that wrap:

    s = ⌊width / 2²⁴⌋,  low ← low + s · Σ_{j<k} f_j,  width ← s · f_k;  where width < 2³², both move up by a word

(Martin, "Range encoding", 1979). A carry is added to the word that was written last, and runs on at the end.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from apercu.codec.coding import PRECISION, TOTAL, Decoder, Encoder, Integers, carries, close
from apercu.errors import FormatError

MANY = 8
"""Images to each value of a call from which on coding them together is faster; measured where the two break even."""
Words = NDArray[np.uint64]
Coder = TypeVar("Coder", Encoder, Decoder)
_WORD, _LOW, _SMALL, _PRECISION = np.uint64(32), np.uint64(0xFFFFFFFF), np.uint64(1 << 32), np.uint64(PRECISION)
_WIDEST = np.uint64(2**64 - 1)


class Encoders(ABC):
    """Values in, bytes out, for B images; each is first in, first out."""

    @abstractmethod
    def encode(self, values: Integers, weights: Integers, tables: Integers | None = None) -> None:
        """Write values (B, T) of each image, each below K, under weights that `weigh` made.

        `weights`: (B, T, K), or (R, K) where `tables`, (B, T) and rising along T, tells the row of each.
        """

    @abstractmethod
    def finish(self, values: int) -> list[bytes]:
        """What `Encoder.finish` says of each image."""


class Decoders(ABC):
    """Bytes in, values out, under the weights that they were written with."""

    @abstractmethod
    def decode(self, weights: Integers, tables: Integers | None = None) -> Integers:
        """The next values of each image, (B, T), under weights as `Encoders.encode` has them.

        Raises:
            FormatError: no encoder wrote the bytes of one of the images under its weights.
        """


def encoders(count: int, run: float) -> Encoders:
    """Those of `count` images, whichever are faster where one table or one call serves `run` values of an image."""
    return _StepEncoders(count) if count >= MANY * run else _EachEncoder(count)


def decoders(streams: Sequence[bytes], run: float) -> Decoders:
    """Those of the stream of each image; `run` as for `encoders`."""
    return _StepDecoders(streams) if len(streams) >= MANY * run else _EachDecoder(streams)


class _EachEncoder(Encoders):
    def __init__(self, count: int) -> None:
        self._coders = [Encoder() for _ in range(count)]

    def encode(self, values: Integers, weights: Integers, tables: Integers | None = None) -> None:
        for coder, own, places, table in _alone(self._coders, values.shape[1], weights, tables):
            coder.encode(values[own, places], table)

    def finish(self, values: int) -> list[bytes]:
        return [coder.finish(values) for coder in self._coders]


class _EachDecoder(Decoders):
    def __init__(self, streams: Sequence[bytes]) -> None:
        self._coders = [Decoder(stream) for stream in streams]

    def decode(self, weights: Integers, tables: Integers | None = None) -> Integers:
        steps = weights.shape[1] if tables is None else tables.shape[1]
        values = np.empty((len(self._coders), steps), np.int64)
        for coder, own, places, table in _alone(self._coders, steps, weights, tables):
            values[own, places] = coder.decode(table, places.stop - places.start)
        return values


def _alone(
    coders: Sequence[Coder], steps: int, weights: Integers, tables: Integers | None
) -> Iterator[tuple[Coder, int, slice, Integers]]:
    """What one call of a coder takes: its image, which of the values, and their weights, (K,) or (T, K)."""
    for own, coder in enumerate(coders):
        if tables is None:
            yield coder, own, slice(0, steps), weights[own]
            continue
        changes: list[int] = (np.flatnonzero(np.diff(tables[own])) + 1).tolist()
        for start, end in pairwise([0, *changes, steps]):
            if start < end:
                yield coder, own, slice(start, end), weights[tables[own, start]]


def _listed(weights: Integers, tables: Integers | None) -> tuple[Integers, Integers, Integers]:
    """Σ_{j<k} f_j and f_k of all tables, one after the other, (R·K,), and which of the tables each value has, (B, T).

    A table sums to 2²⁴, so the sums of table r stand from r · 2²⁴ on: all of them rise, and one search finds a value.
    """
    frequencies = weights.ravel() + 1
    sums = np.cumsum(frequencies)
    sums -= frequencies
    return sums, frequencies, np.arange(weights[..., 0].size).reshape(weights.shape[:2]) if tables is None else tables


class _StepEncoders(Encoders):
    def __init__(self, count: int) -> None:
        self._low, self._width = np.zeros(count, np.uint64), np.full(count, _WIDEST)
        self._words, self._at = np.zeros((count, 8), np.uint64), np.zeros(count, np.int64)

    def encode(self, values: Integers, weights: Integers, tables: Integers | None = None) -> None:
        sums, frequencies, tables = _listed(weights, tables)
        places = tables * weights.shape[-1] + values
        left, frequency = ((of[places] % TOTAL).astype(np.uint64) for of in (sums, frequencies))
        self._reserve(values.shape[1])
        for step in range(values.shape[1]):
            self._step(left[:, step], frequency[:, step])

    def _step(self, left: Words, frequency: Words) -> None:
        scale = self._width >> _PRECISION
        low = self._low + scale * left
        self._width = scale * frequency
        over = (low < self._low).nonzero()[0]  # flatnonzero takes longer to call than to find so few
        if len(over):
            self._words[over, self._at[over] - 1] += np.uint64(1)
        small = (self._width < _SMALL).nonzero()[0]
        if len(small):
            self._words[small, self._at[small]] = low[small] >> _WORD
            self._at[small] += 1
            low[small] <<= _WORD
            self._width[small] <<= _WORD
        self._low = low

    def _reserve(self, steps: int) -> None:
        """Make room for a word in each step, which is the most there can be."""
        count, size = self._words.shape
        if self._at.max(initial=0) + steps > size:
            self._words = np.concatenate([self._words, np.zeros((count, size + steps), np.uint64)], 1)

    def finish(self, values: int) -> list[bytes]:
        ends = zip(self._words, self._at.tolist(), self._low.tolist(), self._width.tolist(), strict=True)
        return [close(_settled(words[:at], carries(low)), low, width, values) for words, at, low, width in ends]


def _settled(words: Words, carry: int) -> bytes:
    """Words as bytes; one of 2³² or more carries to the word before it, and so may what comes after them."""
    low, high = (int.from_bytes(part.astype(">u4").tobytes(), "big") for part in (words & _LOW, words >> _WORD))
    return (low + (high << 32) + carry).to_bytes(4 * len(words), "big")


class _StepDecoders(Decoders):
    def __init__(self, streams: Sequence[bytes]) -> None:
        sizes = np.array([len(stream) // 4 + 3 for stream in streams], np.int64)  # the last word of each is zero
        padded = b"".join(stream.ljust(4 * size, b"\0") for stream, size in zip(streams, sizes.tolist(), strict=True))
        self._words, self._last = np.frombuffer(padded, ">u4").astype(np.uint64), np.cumsum(sizes) - 1
        at = self._last + 1 - sizes
        self._offset = self._words[at] << _WORD | self._words[at + 1]  # of what is read above low
        self._width, self._at = np.full(len(streams), _WIDEST), at + 2

    def decode(self, weights: Integers, tables: Integers | None = None) -> Integers:
        sums, frequencies, tables = _listed(weights, tables)
        places = np.empty(tables.shape, np.int64)
        for step, table in enumerate(tables.T):
            scale = self._width >> _PRECISION
            quantile = self._offset // scale
            if quantile.max(initial=0) >= TOTAL:
                raise FormatError("its symbols cannot be read")
            start = table << PRECISION
            place = np.searchsorted(sums, start + quantile.astype(np.int64), side="right") - 1
            places[:, step] = place
            left, frequency = sums[place] - start, frequencies[place]
            self._take(scale * left.astype(np.uint64), scale * frequency.astype(np.uint64))
        values: Integers = places - tables * weights.shape[-1]
        return values

    def _take(self, start: Words, width: Words) -> None:
        """Go on within the part of the interval that a value has."""
        self._offset -= start
        self._width = width
        small = (width < _SMALL).nonzero()[0]
        if len(small):
            width[small] <<= _WORD
            self._offset[small] = self._offset[small] << _WORD | self._words[self._at[small]]
            self._at[small] = np.minimum(self._at[small] + 1, self._last[small])
