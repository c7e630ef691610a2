"""Tables for symbols of which a network says where they may lie: one for each step of ln σ and each fraction of μ.

ln σ has 64 steps of ⅛ and μ is rounded to ⅛ of a symbol; a table holds the logistic distribution of one ln σ and one
fraction of μ, and the whole part of μ shifts it. What chooses a table is computed in whole numbers: weights of a layer
are in units of 1/4096, its values in units of 1/1024 and below 2²⁴, so that sums stay below 2⁵³, where double precision
is exact in any order.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from torch import Tensor

from apercu.bottlenecks._hyper import MEANS, SCALES
from apercu.codec.coders import Decoders, Encoders
from apercu.codec.coding import Integers

WEIGHT, VALUE, LARGEST = 4096, 1024, 1 << 24
LADDER, PHASES = 64, 8
EIGHTH = WEIGHT * VALUE // 8
"""An eighth, in the units of a layer's sums."""
MASS = 65535
Reals = NDArray[np.float64]


def ladder(reach: int) -> NDArray[np.uint16]:
    """The masses of all tables for symbols from −reach to reach, (64·8, K)."""
    farthest = reach + int(MEANS)
    values = np.arange(-farthest, farthest + 1)
    scales = np.exp(SCALES[0] + (np.arange(LADDER) + 0.5) / 8)[:, None, None]
    centred = values - (np.arange(PHASES) - PHASES // 2)[:, None] / PHASES
    masses = expit((centred + 0.5) / scales) - expit((centred - 0.5) / scales)
    tables: NDArray[np.uint16] = np.rint(masses * MASS).astype(np.uint16).reshape(-1, len(values))
    return tables


def located(mean: Reals, log_scale: Reals) -> tuple[Integers, Integers]:
    """The table of each symbol and its shift, from μ and ln σ in the units of a layer's sums."""
    eighths = np.floor((mean + EIGHTH // 2) / EIGHTH).clip(-8 * MEANS, 8 * MEANS).astype(np.int64)
    shift = (eighths + PHASES // 2) // PHASES
    phase = eighths - PHASES * shift + PHASES // 2
    scale = np.floor(log_scale / EIGHTH - 8 * SCALES[0]).clip(0, LADDER - 1).astype(np.int64)
    return scale * PHASES + phase, shift


def whole_weights(values: Tensor) -> NDArray[np.int16]:
    """The weights of a layer, in order of rows."""
    rounded = np.clip(np.rint(values.detach().double().cpu().numpy() * WEIGHT), -32767, 32767)
    return np.ascontiguousarray(rounded.astype(np.int16))  # any other order is lost when it is written


def whole_biases(values: Tensor) -> NDArray[np.int32]:
    """What is added to the sums of a layer."""
    rounded = np.rint(values.detach().double().cpu().numpy() * (WEIGHT * VALUE))
    biases: NDArray[np.int32] = np.clip(rounded, -(2**31) + 1, 2**31 - 1).astype(np.int32)
    return biases


def write(coders: Encoders, frequencies: Integers, table: Integers, values: Integers) -> None:
    """Values (B, …) of each image, each under its table, in the order of the tables."""
    order, tables = _in_order(table)
    coders.encode(np.take_along_axis(values.reshape(tables.shape), order, 1), frequencies, tables)


def read(coders: Decoders, frequencies: Integers, table: Integers) -> Integers:
    """What `write` wrote, in the shape of the tables.

    Raises:
        FormatError: a stream that no encoder wrote with these tables.
    """
    order, tables = _in_order(table)
    values = np.empty_like(tables)
    np.put_along_axis(values, order, coders.decode(frequencies, tables), 1)
    return values.reshape(table.shape)


def _in_order(table: Integers) -> tuple[Integers, Integers]:
    """The order in which the symbols of each image are written, that of their tables, and these tables: (B, T)."""
    flat = table.reshape(len(table), -1).astype(np.int16)  # short numbers are sorted by their digits
    order = flat.argsort(1, kind="stable")
    return order, np.take_along_axis(flat, order, 1).astype(np.int64)
