"""What the masks of an image set say of each pixel: the number of a class, 0 for the background, −1 for unknown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from apercu.data.images import ImageSet
from apercu.data.normal import normal_class
from apercu.errors import ApercuError

Numbers = NDArray[np.int16]
MARKED = "1"
UNKNOWN = -1


def names_in(images: ImageSet) -> tuple[str, ...]:
    """The classes that masks mark: those that masks name, else those of the images that have one, else "1"."""
    if images.marked:
        return images.marked
    labels = {label for name, label in zip(images.ids, images.labels.tolist(), strict=True) if name in images.masks}
    if not images.classes:
        return (MARKED,) if labels else ()
    return tuple(images.classes[k] for k in sorted(labels - {UNKNOWN}))


def numbers(images: ImageSet, k: int, names: Sequence[str], normal: int | None) -> Numbers | None:
    """What is marked in the image at `k`, (H, W), in the numbers of `names`; None where nobody drew a mask.

    Where masks only mark, the class is that of the image, and unknown where that is. Images of the class numbered
    `normal` have nothing to mark.

    Raises:
        ApercuError: the mask cannot be read, or has another size than its image.
    """
    label = int(images.labels[k])
    if images.marked:
        drawn = images.numbers(k)
        return None if drawn is None else _table(images.marked, names)[drawn]
    mask = images.mask(k)
    if mask is None:
        return np.zeros(images.sizes[k], np.int16) if normal is not None and label == normal else None
    table = _table(images.classes or (MARKED,), names)
    number = table[1 if not images.classes else label + 1 if label >= 0 else UNKNOWN]
    return np.where(mask, number, 0).astype(np.int16)


def _table(own: Sequence[str], names: Sequence[str]) -> Numbers:
    """Own number → number among `names`; −1 for what is unknown there. Unknown itself is last, where −1 finds it."""
    known = {name: number for number, name in enumerate(names, start=1)}
    return np.array([0, *(known.get(name, UNKNOWN) for name in own), UNKNOWN], np.int16)


@dataclass(frozen=True)
class Marked:
    """The images whose masks can be used, their masks, and why others cannot."""

    images: ImageSet
    numbers: list[Numbers]
    skipped: list[str]


def marked(images: ImageSet, names: Sequence[str], normal: str = "") -> Marked:
    """All images of which something is known at any pixel.

    Raises:
        ApercuError: there is none, with the reason why the first cannot be used.
    """
    nothing_there = normal_class(images.classes, normal) if images.classes else None
    rows, drawn, skipped = list[int](), list[Numbers](), list[str]()
    for k in range(len(images)):
        try:
            own = numbers(images, k, names, nothing_there)
        except ApercuError as error:
            skipped.append(str(error))
            continue
        if own is not None and (own != UNKNOWN).any():
            rows.append(k)
            drawn.append(own)
    if not any((own > 0).any() for own in drawn):
        raise ApercuError(
            skipped[0] if skipped else "no mask marks anything in these images; name a folder with images/ and masks/"
        )
    return Marked(images.subset(rows), drawn, skipped)
