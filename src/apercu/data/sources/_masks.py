"""Which files of a folder are masks of others, and what their values mean.

    ground_truth/DEFECT/NAME_mask.png  →  DEFECT/NAME.png, in any split
    NAME_mask.png                      →  NAME.png
    masks/NAME.png                     →  images/NAME.png

The first is the layout of Bergmann et al., "MVTec AD: a comprehensive real-world dataset for unsupervised anomaly
detection" (2019). There and beside their images masks only mark. In a folder `masks` their values may be the numbers of
classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from apercu.data.decode import PNG, Decoded, decode_file, open_pillow
from apercu.data.pixels import in_threads
from apercu.errors import ApercuError

TRUTH, ENDING = "ground_truth", "_mask"
IMAGES, MASKS = "images", "masks"
UNKNOWN, MOST = 255, 127
"""The value that leaves open what a pixel shows, and the largest number of a class."""
Parts = tuple[str, ...]


def part_masks(files: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The images among the files, in their order, and the mask of each that has one.

    A folder that is called `ground_truth` holds no images, whether its files belong to one or not, and neither does
    `masks` beside `images`; unless there are no others.
    """
    stems = {file: PurePosixPath(file).with_suffix("").parts for file in files}
    paired = {parts[:k] for parts in stems.values() for k, part in enumerate(parts[:-1]) if part == IMAGES}
    truths = {file for file, parts in stems.items() if TRUTH in parts[:-1] or _is_paired(parts, paired)}
    if len(truths) == len(files):
        truths = set()
    there = {parts for file, parts in stems.items() if file not in truths}
    beside = {
        file
        for file, parts in stems.items()
        if file not in truths and parts[-1].endswith(ENDING) and _named(parts) in there
    }
    masks = {_named(stems[file]): file for file in sorted(truths | beside)}
    images = [file for file in files if file not in truths | beside]
    found = {file: masks[key] for file in images for key in _keys(stems[file]) if key in masks}
    return images, found


def named_numbers(root: Path, masks: Mapping[str, str]) -> tuple[str, ...]:
    """The names of the classes that the values of masks number, "1", "2", …; none where masks only mark.

    They number classes where they lie in a folder `masks`, and no value lies above 127 but 255, which is unknown. Masks
    of 0 and 255, or of 0 and 1, only mark, and so do those with soft edges.
    """
    numbering = [mask for mask in masks.values() if MASKS in PurePosixPath(mask).parts[:-1]]
    values = set[int]().union(*in_threads(_values, [str(root / mask) for mask in numbering]))
    largest = max(values - {UNKNOWN}, default=0)
    if largest > MOST or values - {0} in (set(), {1}, {UNKNOWN}):
        return ()
    return tuple(str(k) for k in range(1, largest + 1))


def decode_numbers(path: str | Path) -> Decoded:
    """The values of a mask, (1, H, W) int16: the indices of a palette, or grey; 255 becomes −1.

    Raises:
        ApercuError: it cannot be read; the message is the reason only.
    """
    values = _read(path).astype(np.int16)
    return Decoded(np.where(values == UNKNOWN, -1, values))


def _read(path: str | Path) -> np.ndarray:
    pixels, data = decode_file(path).pixels, Path(path).read_bytes()
    if data.startswith(PNG):
        with open_pillow(data) as picture:
            if picture.mode == "P":
                return np.asarray(picture)[None]
    grey: np.ndarray = pixels.max(0, keepdims=True)
    return grey


def _values(path: str) -> set[int]:
    """The values of a mask; none where it cannot be read, which is said when it is needed."""
    try:
        values: list[int] = np.unique(_read(path)).tolist()
    except ApercuError:
        return set()
    return set(values)


def _is_paired(parts: Parts, paired: set[Parts]) -> bool:
    """Whether a file lies in a folder `masks` that has a folder `images` beside it."""
    return any(part == MASKS and parts[:k] in paired for k, part in enumerate(parts[:-1]))


def _named(parts: Parts) -> Parts:
    """What a mask belongs to: its name without the ending, below the folder that holds `ground_truth`."""
    return *parts[:-1], parts[-1].removesuffix(ENDING)


def _keys(parts: Parts) -> list[Parts]:
    """Where the mask of an image can be: beside it, below `ground_truth` in place of its split or of nothing, or below
    `masks` in place of `images`."""
    places = range(len(parts))
    return [
        parts,
        *((*parts[:k], TRUTH, *parts[k:]) for k in places),
        *((*parts[:k], TRUTH, *parts[k + 1 :]) for k in places[:-1]),
        *((*parts[:k], MASKS, *parts[k + 1 :]) for k in places[:-1] if parts[k] == IMAGES),
    ]
