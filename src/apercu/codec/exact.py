"""Tables of exp and of the logistic function in whole numbers, the same on every machine."""

from __future__ import annotations

import decimal
from collections.abc import Iterator
from functools import cache
from itertools import islice, takewhile

import numpy as np

from apercu.codec.coding import Integers


@cache
def exponential() -> Integers:
    """⌊2²⁰ · exp(−i / 256)⌋ for i = 0 … until it is 0."""
    return np.array([*takewhile(bool, (power >> 44 for power in _decay(256))), 0], np.int64)


@cache
def logistic() -> Integers:
    """2¹⁶ · σ(i / 64) for i = −768 … 768, rounded towards ½."""
    upper = [(1 << 80) // ((1 << 64) + power) for power in islice(_decay(64), 769)]
    return np.array([(1 << 16) - value for value in upper[:0:-1]] + upper, np.int64)


@cache
def growth() -> Integers:
    """⌊16 · exp(i / 16)⌋ for i = 0 … 192."""
    return np.array([(1 << 68) // power for power in islice(_decay(16), 193)], np.int64)


def _decay(steps: int) -> Iterator[int]:
    """2⁶⁴ · exp(−i / steps) for i = 0, 1, …, by p ← ⌊p · r / 2⁶⁴⌋; r is the first after 2⁶⁴, rounded down."""
    context = decimal.Context(prec=60)
    ratio = int(context.multiply(1 << 64, context.exp(context.divide(-1, steps))))
    power = 1 << 64
    while True:
        yield power
        power = power * ratio >> 64
