"""Entropy coding with whole numbers alone: what one machine writes, every machine reads.

A value k of a symbol has the frequency f_k = w_k + 1 out of 2²⁴, and costs −log₂(f_k / 2²⁴) bits. The range coder is
that of constriction (Bamler, "Understanding entropy coding with asymmetric numeral systems", 2022). It takes
floating-point probabilities p_k and computes the cumulative frequencies ⌊Σ_{j<k} p_j · (2²⁴ − K) / Σ_j p_j⌋ + k.
Given the weights w_k, whole numbers with Σ_k w_k = 2²⁴ − K, the factor is exactly 1 and every sum is exact in double
precision, so the frequencies are w_k + 1 on every processor.
"""

from __future__ import annotations

from typing import Any

import constriction
import numpy as np
from numpy.typing import NDArray

from apercu.errors import FormatError

PRECISION = 24
TOTAL = 1 << PRECISION
DENSEST = 1 << 9
"""Values in one byte of a stream, at most: shorter streams are padded, so that a header cannot claim what it likes."""

Integers = NDArray[np.int64]
_categorical = constriction.stream.model.Categorical
_family = _categorical(perfect=False)


def weigh(masses: Integers) -> Integers:
    """Masses of K ≥ 2 values, (…, K) from 0 and together at most 2³², as weights that sum to 2²⁴ − K.

    A 4096th of the total is spread evenly first, so that what was never seen is not absurdly dear. Whole numbers alone;
    what the division leaves goes to the likeliest value, the first of them where two are.
    """
    count = masses.shape[-1]
    spread = masses + (1 + (masses.sum(-1, keepdims=True) >> 12) // count)
    free = TOTAL - count
    factor = (free << 24) // spread.sum(-1, keepdims=True)
    weights: Integers = (spread * factor) >> 24
    likeliest = masses.argmax(-1)[..., None]
    left = free - weights.sum(-1, keepdims=True)
    np.put_along_axis(weights, likeliest, np.take_along_axis(weights, likeliest, -1) + left, -1)
    return weights


def _model(weights: Integers) -> tuple[Any, ...]:
    """What constriction calls a model: one table for all values, (K,), or one for each, (T, K)."""
    exact = weights.astype(np.float64)
    return (_categorical(exact, perfect=False),) if weights.ndim == 1 else (_family, exact)


class Encoder:
    """Values in, bytes out; first in, first out."""

    def __init__(self) -> None:
        self._coder = constriction.stream.queue.RangeEncoder()

    def encode(self, values: Integers, weights: Integers) -> None:
        """Write values, (T,), each below K, under weights (K,) or (T, K) that `weigh` made."""
        if len(values):
            self._coder.encode(values.astype(np.int32), *_model(weights))

    def finish(self, values: int) -> bytes:
        """The stream of what was written, of which `values` are an image's, as `close` makes it."""
        words = np.asarray(self._coder.get_compressed()).astype(">u4").tobytes()
        position, (low, width) = self._coder.pos()
        return close(words[: 4 * position], low, width, values)


def carries(low: int) -> int:
    """Whether the number that ends a stream carries to the words before it, 0 or 1."""
    return low + (1 << 32) - 1 >> 64


def close(words: bytes, low: int, width: int, values: int) -> bytes:
    """The shortest bytes that tell what was written: all numbers in [low, low + width), on top of the words that are
    settled, mean the same.

    On the side of a carry that `words` are on. Zeros at the end are left out, but for a byte to each `DENSEST` of the
    image's `values`.
    """
    carry = carries(low)
    for length in range(8):
        unit = 1 << (64 - 8 * length)
        number = -(-low // unit) * unit
        if number < low + width and number >> 64 == carry:
            break
    ending = (number % (1 << 64)).to_bytes(8, "big")[:length]
    return (words + ending).rstrip(b"\0").ljust(values // DENSEST, b"\0")


class Decoder:
    """Bytes in, values out, under the weights that they were written with."""

    def __init__(self, data: bytes) -> None:
        padded = data + bytes(-len(data) % 4)
        self._coder = constriction.stream.queue.RangeDecoder(np.frombuffer(padded, ">u4").astype(np.uint32))

    def decode(self, weights: Integers, count: int) -> Integers:
        """The next values, (count,), under weights (K,) or (count, K).

        Raises:
            FormatError: no encoder wrote these bytes under these weights.
        """
        if not count:
            return np.empty(0, np.int64)
        model = _model(weights)
        try:
            values = self._coder.decode(*model, count) if weights.ndim == 1 else self._coder.decode(*model)
        except AssertionError:
            raise FormatError("its symbols cannot be read") from None
        return np.asarray(values).astype(np.int64)
