"""Classes of pixels for the eye: masks in colours that keep their numbers, and laid over the image."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

COLOURS = np.array(
    [
        [0, 0, 0], [230, 159, 0], [86, 180, 233], [0, 158, 115], [240, 228, 66], [0, 114, 178], [213, 94, 0],
        [204, 121, 167],
    ],
    np.uint8,
)  # fmt: skip
"""Black, then colours that colour-blind people tell apart: Okabe and Ito, "Color universal design" (2008)."""
STRENGTH = 0.45


def palette(count: int) -> NDArray[np.uint8]:
    """A colour for each of `count` classes, (count, 3), the background first; after seven they come again, darker."""
    rounds, place = np.divmod(np.arange(max(0, count - 1)), len(COLOURS) - 1)
    colours = COLOURS[1:][place] * (0.6 ** rounds[:, None])
    together: NDArray[np.uint8] = np.concatenate([COLOURS[:1], colours.astype(np.uint8)])
    return together


def encode_mask(numbers: NDArray[Any]) -> bytes:
    """PNG of (H, W): the values are the numbers of the classes, up to 255, and the palette their colours."""
    from PIL import Image

    picture = Image.fromarray(numbers.astype(np.uint8))
    picture.putpalette(palette(256).tobytes())
    data = io.BytesIO()
    picture.save(data, "PNG")
    return data.getvalue()


def overlay(image: NDArray[np.float32], numbers: NDArray[Any]) -> NDArray[np.float32]:
    """(C, H, W) in [0, 1] and its classes, (H, W) → (3, H, W): tinted, with their edges in full colour."""
    colours = palette(int(numbers.max(initial=0)) + 1).astype(np.float32) / 255
    tint = np.moveaxis(colours[numbers], 2, 0)
    ground = image if len(image) == 3 else np.repeat(image.mean(0, keepdims=True), 3, axis=0)
    share = np.where(numbers > 0, np.where(_edges(numbers), 1.0, STRENGTH), 0.0)
    shown: NDArray[np.float32] = ((1 - share) * ground + share * tint).astype(np.float32)
    return shown


def _edges(numbers: NDArray[Any]) -> NDArray[np.bool_]:
    """The pixels that touch another class, across or down."""
    edges = np.zeros(numbers.shape, np.bool_)
    down, across = numbers[1:] != numbers[:-1], numbers[:, 1:] != numbers[:, :-1]
    edges[1:] |= down
    edges[:-1] |= down
    edges[:, 1:] |= across
    edges[:, :-1] |= across
    return edges
