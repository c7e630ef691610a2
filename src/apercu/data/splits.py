"""Which images are for training, validation and test: the official split, or a stable one by content.

An image's digest decides its side, so the same image never stands on two sides, and images that are added later never
move the old ones.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

NAMES = ("train", "val", "test")
VAL, TEST = 0.8, 0.9  # where validation and test begin


def position(hashes: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Digests, (N, 16), to numbers in [0, 1), (N,), as if drawn at random."""
    leading = np.ascontiguousarray(hashes[:, :8]).view(">u8")[:, 0]
    return leading.astype(np.float64) / 2.0**64


def assign(official: NDArray[np.str_], hashes: NDArray[np.uint8]) -> tuple[NDArray[np.str_], list[str]]:
    """The split of each image, (N,), and what was decided, in words; `official` is "" where there is none."""
    present = set(np.unique(official).tolist())
    at = position(hashes)
    splits = np.full(len(official), "train", dtype="<U5")
    if "train" not in present or present <= {"train", ""}:
        splits[at >= VAL] = "val"
        splits[at >= TEST] = "test"
        if not (splits == "train").any():
            splits[:] = "train"
            return splits, ["too few images to hold any back: all are for training"]
        return splits, [f"no official split: 80 % train, 10 % val, 10 % test by content hash ({_counts(splits)})"]
    splits[:] = np.where(official == "", "train", official)
    notes = []
    for name, low, high in (("val", VAL, TEST), ("test", TEST, 1.0)):
        if name in present:
            continue
        chosen = (splits == "train") & (at >= low) & (at < high)
        if chosen.sum() < (splits == "train").sum():
            splits[chosen] = name
        notes.append(f"no official {name} split: 10 % of train by content hash ({_counts(splits)})")
    return splits, notes


def _counts(splits: NDArray[np.str_]) -> str:
    return ", ".join(f"{(splits == name).sum()} {name}" for name in NAMES)
