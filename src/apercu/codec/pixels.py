"""Pixels under the decoder's picture and the pixels before them, without loss, in whole numbers.

    P(x) = F(x + ½) − F(x − ½),  F(v) = Σ_k π_k σ((v − μ_k) · r_k) + Σ_l ρ_l [v > a_l]

A mixture of logistics as in Salimans et al., "PixelCNN++" (2017), and of the values a_l of the pixels on the left and
above. π, μ, r and ρ come from a small network that sees the neighbours that are known, the decoder's picture around the
pixel, the channels before this one, and where in the image it is. All is computed in integers: 2¹⁶ is white, weights
are 16-bit in units of 2⁻¹⁰, and sums stay below 2⁵³, where double precision is exact. A value is written as digits of
four bits, the highest first, so that the same few sums serve 8 and 16 bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from apercu.codec.coding import Decoder, Encoder, Integers, weigh
from apercu.codec.exact import exponential, growth, logistic
from apercu.errors import FormatError
from apercu.types import Grid

WHITE = 1 << 16
PARTS, SPIKES, PLANES = 5, 2, 3
OUTPUTS = 3 * PARTS + SPIKES
BEFORE = ((0, -1), (-1, 0), (-1, -1), (-1, 1), (0, -2), (-2, 0), (-2, -1), (-1, -2), (-2, 1), (0, -3))
"""Neighbours that are known, as (rows down, columns right); the first `SPIKES` are also values to repeat."""
AROUND = ((0, 0), (0, -1), (-1, 0), (0, 1), (1, 0), (1, 1), (1, -1))
EDGE = 3
Reals = NDArray[np.float64]
Exchange = Callable[[int, Integers, Integers], Integers]


@dataclass(frozen=True, eq=False)
class Net:
    """o = skip·f + last·h₂ + c, h₂ = max(second·h₁ + b, 0), h₁ = max(first·f + a, 0).

    Matrices int16 in units of 2⁻¹⁰, as (in, out); a, b, c int32, and all values in units of 2⁻¹⁶.
    """

    first: NDArray[np.int16]
    second: NDArray[np.int16]
    last: NDArray[np.int16]
    skip: NDArray[np.int16]
    a: NDArray[np.int32]
    b: NDArray[np.int32]
    c: NDArray[np.int32]

    def __call__(self, f: Reals) -> Integers:
        """(…, F) → (…, OUTPUTS)."""
        h = self._layer(self._layer(f, self.first, self.a), self.second, self.b)
        sums = f @ self.skip.astype(np.float64) + h @ self.last.astype(np.float64)
        return np.floor(sums / 1024).astype(np.int64) + self.c

    @staticmethod
    def _layer(x: Reals, matrix: NDArray[np.int16], bias: NDArray[np.int32]) -> Reals:
        return np.clip(np.floor(x @ matrix.astype(np.float64) / 1024) + bias, 0, 1 << 22)


class Canvas:
    """Pixels as they become known, and the decoder's picture, both in units of 2⁻¹⁶ with a margin: (B, C, H, W)."""

    def __init__(self, picture: Integers, maximum: int) -> None:
        margins = ((0, 0), (0, 0), (EDGE, EDGE), (EDGE, EDGE))
        self.picture = np.pad(picture, margins, mode="edge")
        self.known = np.zeros_like(self.picture)
        self.size, self.maximum = (picture.shape[2], picture.shape[3]), maximum

    def fill(self, pixels: Integers) -> None:
        """Make all pixels known, (B, C, H, W)."""
        self.known[..., EDGE:-EDGE, EDGE:-EDGE] = self._scaled(pixels)

    def put(self, plane: int, i: Integers, j: Integers, values: Integers) -> None:
        """Make the pixels of a plane at (i, j), (T,) each, known: values (B, T)."""
        self.known[:, plane, i + EDGE, j + EDGE] = self._scaled(values)

    def spikes(self, plane: int, i: Integers, j: Integers) -> Integers:
        """The values that may be repeated, (B, T, SPIKES)."""
        return np.stack([self._at(self.known, plane, i, j, offset) for offset in BEFORE[:SPIKES]], -1)

    def features(self, plane: int, i: Integers, j: Integers) -> Reals:
        """What is known of pixels before they are, (B, T, F)."""
        near = [self._at(self.known, plane, i, j, offset) for offset in BEFORE]
        flags = [value == 0 for value in near[:4]] + [value >= WHITE for value in near[:4]] + [near[0] == near[1]]
        seen = [self._at(self.picture, plane, i, j, offset) for offset in AROUND]
        for other in range(plane - 1, max(-1, plane - PLANES), -1):
            seen += [self._at(self.known, other, i, j, offset) for offset in AROUND]
        place = [np.broadcast_to(at * WHITE // side, near[0].shape) for at, side in zip((i, j), self.size, strict=True)]
        return np.stack([*near, *(WHITE * flag for flag in flags), *seen, *place], -1).astype(np.float64)

    def _at(self, values: Integers, plane: int, i: Integers, j: Integers, offset: tuple[int, int]) -> Integers:
        found: Integers = values[:, plane, i + EDGE + offset[0], j + EDGE + offset[1]]
        return found

    def _scaled(self, values: Integers) -> Integers:
        return values * WHITE // self.maximum


def width_of(plane: int) -> int:
    """How many numbers the network of a plane sees, F."""
    others = min(plane, PLANES - 1)
    return len(BEFORE) + 9 + len(AROUND) * (1 + others) + 2


def order(size: Grid) -> Iterator[tuple[Integers, Integers]]:
    """Positions that may be read together, in order: those with the same 2·i + j."""
    height, width = size
    for time in range(width + 2 * (height - 1)):
        i = np.arange(max(0, (time - width + 2) // 2), min(height - 1, time // 2) + 1)
        yield i, time - 2 * i


class Mixture:
    """F for each pixel, (B, T), of what a network says of it."""

    def __init__(self, outputs: Integers, spikes: Integers, maximum: int) -> None:
        mean, rate, share = np.split(outputs, [PARTS, 2 * PARTS], -1)
        self.mean, self.spikes, self.maximum = mean, spikes, maximum
        self.rate = growth()[np.clip(rate >> 12, 0, len(growth()) - 1)]
        below = np.minimum((share.max(-1, keepdims=True) - share) >> 8, len(exponential()) - 1)
        masses = exponential()[below]
        self.share = (masses << 16) // masses.sum(-1, keepdims=True)

    def below(self, values: Integers) -> Integers:
        """2³² · P(x < value) for values (B, T, V), where 0 is the lowest and above the maximum there is nothing."""
        bound = (2 * values - 1) * WHITE // (2 * self.maximum)
        away = (bound[..., None] - self.mean[..., None, :]) * self.rate[..., None, :] >> 14
        table = logistic()
        middle = len(table) // 2
        smooth = table[np.clip(away, -middle, middle) + middle]
        repeated = (bound[..., None] > self.spikes[..., None, :]).astype(np.int64) << 16
        parts = np.concatenate([smooth, repeated], -1)
        total: Integers = (parts * self.share[..., None, :]).sum(-1)
        return np.where(values <= 0, 0, np.where(values > self.maximum, 1 << 32, total))


@dataclass(frozen=True, eq=False)
class PixelCoder:
    """Writes and reads pixels; `nets`: the network of each of the first planes, the last one for all that follow."""

    nets: Sequence[Net]

    def __post_init__(self) -> None:
        if not self.nets or any(net.skip.shape != (width_of(k), OUTPUTS) for k, net in enumerate(self.nets)):
            raise FormatError("the tables for lossless files do not fit each other; restore them from a copy")

    def encode(self, pixels: Integers, picture: Integers, maximum: int, coders: Sequence[Encoder]) -> None:
        """Write pixels (B, C, H, W), each of 0 … maximum, given the decoder's picture of them, of 0 … 2¹⁶."""
        canvas = Canvas(picture, maximum)
        canvas.fill(pixels)

        def write(image: int, weights: Integers, digits: Integers) -> Integers:
            coders[image].encode(digits, weights)
            return digits

        self._walk(canvas, pixels, write)

    def decode(self, picture: Integers, maximum: int, coders: Sequence[Decoder]) -> Integers:
        """Read pixels (B, C, H, W)."""
        canvas, pixels = Canvas(picture, maximum), np.zeros_like(picture)

        def read(image: int, weights: Integers, digits: Integers) -> Integers:
            return coders[image].decode(weights, len(digits))

        self._walk(canvas, pixels, read)
        return pixels

    def _walk(self, canvas: Canvas, pixels: Integers, exchange: Exchange) -> None:
        """Visit every pixel in the order of the stream; `exchange(image, weights, digits)` gives its digits back."""
        for plane in range(pixels.shape[1]):
            net = self.nets[min(plane, len(self.nets) - 1)]
            for i, j in order(canvas.size):
                mixture = Mixture(net(canvas.features(plane, i, j)), canvas.spikes(plane, i, j), canvas.maximum)
                values = pixels[:, plane, i, j]
                prefix = np.zeros_like(values)
                for shift in range((canvas.maximum.bit_length() - 1) // 4 * 4, -1, -4):
                    digits = self._digits(mixture, prefix, shift, values >> shift & 15, exchange)
                    prefix |= digits << shift
                pixels[:, plane, i, j] = prefix
                canvas.put(plane, i, j, prefix)

    @staticmethod
    def _digits(mixture: Mixture, prefix: Integers, shift: int, digits: Integers, exchange: Exchange) -> Integers:
        """Four bits of every value, given the higher ones."""
        below = mixture.below(prefix[..., None] + (np.arange(17) << shift))
        weights = weigh(np.diff(below, axis=-1))
        return np.stack(
            [exchange(image, own, known) for image, (own, known) in enumerate(zip(weights, digits, strict=True))]
        )
