"""Tiles: large images as overlapping windows of one size, and what is said of the windows as one map again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apercu.data.images import ImageSet
from apercu.data.pixels import Lazy

OVERLAP = 0.25
Box = tuple[int, int, int, int]


def starts(length: int, side: int) -> list[int]:
    """Where windows of `side` begin so that they cover `length`, evenly, overlapping by a quarter or more."""
    if length <= side:
        return [0]
    count = 1 + -(-(length - side) // max(1, round(side * (1 - OVERLAP))))
    places: list[int] = np.linspace(0, length - side, count).round().astype(int).tolist()
    return places


def boxes(size: tuple[int, int], window: tuple[int, int]) -> list[Box]:
    """(top, left, height, width) of every window of an image of `size`; one that is smaller is taken whole."""
    height, width = (min(a, b) for a, b in zip(size, window, strict=True))
    return [(top, left, height, width) for top in starts(size[0], height) for left in starts(size[1], width)]


@dataclass(frozen=True)
class Tiling:
    """`images`: tiles; `owner`: (T,), the position of the image that each was cut from; `boxes`: where, (T, 4)."""

    images: ImageSet
    owner: NDArray[np.int64]
    boxes: NDArray[np.int64]


def cut(images: ImageSet, window: tuple[int, int]) -> Tiling:
    """Every image in windows, in order; those that fit into one stay as they are."""
    places = [
        (k, box)
        for k in range(len(images))
        for box in boxes((int(images.sizes[k, 0]), int(images.sizes[k, 1])), window)
    ]
    owner = np.array([k for k, _ in places], np.int64)
    where = np.array([box for _, box in places], np.int64).reshape(-1, 4)
    whole = len(places) == len(images)
    if whole:
        return Tiling(images, owner, where)
    names = [f"{images.ids[k]}@{top},{left}" for k, (top, left, _, _) in places]
    return Tiling(replace(windows(images, owner, where), ids=names), owner, where)


def windows(images: ImageSet, owner: NDArray[np.int64], where: NDArray[np.int64]) -> ImageSet:
    """Parts of images, which are read when they are asked for: of image `owner`, (T,), the box `where`, (T, 4)."""
    sizes = where[:, 2:]
    height, width = sizes.max(0).tolist()
    parts = zip(owner.tolist(), where.tolist(), strict=True)
    return replace(
        images.subset(owner),
        spec=replace(images.spec, height=height, width=width, uniform=bool((sizes == sizes[0]).all())),
        sizes=sizes,
        pixels=Lazy([partial(_read, images, k, tuple(box)) for k, box in parts], images.pixels.dtype),
        rows=np.arange(len(owner)),
        masks={},
        original=None,
    )


def _read(images: ImageSet, k: int, box: Box) -> NDArray[Any]:
    top, left, height, width = box
    tile: NDArray[Any] = images.read([k])[0][:, top : top + height, left : left + width]
    return tile


def feather(size: tuple[int, int]) -> NDArray[np.float32]:
    """Weights of a window, (h, w), that fall towards its edges, where less of the surroundings was seen."""
    rows, columns = (np.minimum(np.arange(side) + 1, side - np.arange(side)) for side in size)
    weights: NDArray[np.float32] = np.minimum(rows[:, None], columns[None]).astype(np.float32)
    return weights


def blend(maps: Sequence[NDArray[np.float32]], places: Sequence[Box], size: tuple[int, int]) -> NDArray[np.float32]:
    """The maps of an image's windows as one, (H, W): their mean where they overlap, each weighted by its `feather`."""
    if len(maps) == 1:
        return maps[0]
    total, weight = np.zeros(size, np.float32), np.zeros(size, np.float32)
    for values, (top, left, height, width) in zip(maps, places, strict=True):
        here = np.s_[top : top + height, left : left + width]
        total[here] += feather((height, width)) * values
        weight[here] += feather((height, width))
    return total / weight
