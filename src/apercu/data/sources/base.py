"""What a source gives: parts of a data set, each with pixels or with functions that decode them.

A source is a file here with two functions: `accepts(images) -> bool`, which says whether this is its layout, and
`open(images) -> Found`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apercu.data.decode import Decoded
from apercu.data.images import Problem
from apercu.errors import ApercuError

Loader = Callable[[], Decoded]
SPLITS = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip


@dataclass
class Part:
    """N images that belong to one official split, or to none ("").

    `pixels`: (N, C, H, W), or N functions that decode one image; `labels`: (N,) int64, −1 where unknown.
    """

    pixels: NDArray[Any] | Sequence[Loader]
    ids: list[str]
    labels: NDArray[np.int64]
    split: str = ""


@dataclass
class Found:
    """A data set as its source describes it; `maximum` is the value that means white, where it is not the type's.

    `masks`: by id, what decodes the mask of an image that has one; `marked`: what their values 1, 2, … mean, where they
    are numbers of classes.
    """

    parts: list[Part]
    classes: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    maximum: float | None = None
    masks: dict[str, Loader] = field(default_factory=dict)
    marked: tuple[str, ...] = ()


def as_path(images: object) -> Path | None:
    """The path that `images` names, whether it exists or not; None where it is no path."""
    return Path(images).expanduser() if isinstance(images, str | Path) else None


def unknown(count: int) -> NDArray[np.int64]:
    """(count,) labels, all unknown."""
    return np.full(count, -1, np.int64)


def number_labels(values: object, classes: Sequence[str] | None = None) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Labels, (N,), and class names, from integers (−1 is unknown) or names (empty or None is unknown).

    Raises:
        ApercuError: not one label for each image, or a label that no class has.
    """
    array = np.asarray(values)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise ApercuError(f"labels must be one for each image, (N,), not an array of shape {array.shape}")
    if array.dtype.kind == "f" and (array == np.floor(array)).all():
        array = array.astype(np.int64)
    if array.dtype.kind in "iub":
        labels = array.astype(np.int64)
        top = int(labels.max(initial=-1))
        if labels.min(initial=0) < -1:
            raise ApercuError("labels must count from 0, with −1 for unknown")
        if top >= max(10_000, len(labels)) or (classes is not None and top >= len(classes)):
            raise ApercuError(f"label {top} has no class: labels must count from 0, with −1 for unknown")
        return labels, tuple(classes) if classes is not None else tuple(str(c) for c in range(top + 1))
    if array.dtype.kind not in "UO":
        raise ApercuError(f"labels of type {array.dtype} are not supported: use integers from 0, or names")
    names = ["" if v is None else str(v).strip() for v in array.tolist()]
    known = tuple(classes) if classes is not None else tuple(sorted({n for n in names if n}))
    index = {name: i for i, name in enumerate(known)} | {"": -1}
    strange = sorted(set(names) - set(index))
    if strange:
        raise ApercuError(f"the label {strange[0]!r} is none of the classes: {', '.join(known[:20])}")
    return np.array([index[n] for n in names], np.int64).reshape(-1), known
