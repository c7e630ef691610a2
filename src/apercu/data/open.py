"""Open anything that holds images: find its source, look at every image, agree on one kind, and split."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

import numpy as np

from apercu import registry
from apercu.data.agree import agree, count_kinds
from apercu.data.convert import Fit, Resize, parse_size
from apercu.data.images import ImageSet, Problem, join
from apercu.data.pixels import default_memory
from apercu.data.sources.base import Found
from apercu.data.splits import NAMES, assign
from apercu.data.survey import Progress, survey
from apercu.errors import ApercuError


@dataclass
class Images:
    """An opened data set: its three splits, what was skipped and what was decided; `kinds` counts images as stored."""

    train: ImageSet
    val: ImageSet
    test: ImageSet
    problems: list[Problem]
    notes: list[str]
    origin: str
    kinds: dict[str, int] = field(default_factory=dict)

    def split(self, name: str) -> ImageSet:
        """The images of "train", "val", "test" or "all"; all stand in the order of their source.

        Raises:
            ApercuError: there is no such split.
        """
        sets = {"train": self.train, "val": self.val, "test": self.test}
        if name == "all":
            together = join(list(sets.values()))
            return together.subset(np.argsort(together.rows, kind="stable"))
        if name not in sets:
            raise ApercuError(f"there is no split {name!r}: choose train, val, test or all")
        return sets[name]


def open_images(
    images: object,
    *,
    size: str | int | tuple[int, int] | None = None,
    fit: Fit = "error",
    channels: int | None = None,
    strict: bool = False,
    memory: int | None = None,
    progress: Progress | None = None,
) -> Images:
    """Open `images`: a folder, a file, a name such as `sklearn:digits` or `hf:owner/name`, arrays, or (x, y).

    `size`: height × width of every image, reached by `fit`: "resize" (antialiased), "crop" (the centre) or "pad"
    (edges repeated); `channels`: 1 for grey, 3 for colour; `strict`: raise for the first file that cannot be read;
    `memory`: bytes that decoded images may take, a third of the machine's by default, beyond which files are decoded
    when read; `progress`: called with (images looked at, images in all).

    Raises:
        ApercuError: there is nothing to open, or the images do not fit together; the message says what to do.
    """
    if isinstance(images, Images):
        if size is not None or channels is not None:
            raise ApercuError("these images are open already: give size and channels when they are opened first")
        return images
    if fit not in get_args(Fit):
        raise ApercuError(f"there is no fit {fit!r}: choose {', '.join(get_args(Fit))}")
    if channels is not None and channels < 1:
        raise ApercuError(f"{channels} channels are not an image: use 1 for grey, 3 for colour")
    resize = Resize(parse_size(size), fit)
    budget = default_memory() if memory is None else memory
    found = find(images)
    if isinstance(found, Images):
        return found
    seen = survey(found, resize, budget, progress)
    origin = str(images) if isinstance(images, str | Path) else type(images).__name__
    if not seen.ids:
        first = f", the first being {seen.problems[0]}" if seen.problems else ""
        raise ApercuError(f"{origin}: no image could be read{first}; check that these are images")
    if strict and seen.problems:
        count = len(seen.problems)
        raise ApercuError(f"{origin}: {count} could not be read, the first being {seen.problems[0]}; mend or remove it")
    everything, notes = agree(found, seen, resize, channels, budget)
    splits, decided = assign(np.array(seen.splits), everything.hashes)
    train, val, test = (everything.subset(splits == name) for name in NAMES)
    return Images(train, val, test, seen.problems, notes + decided, origin, count_kinds(seen))


def find(images: object) -> Found | Images:
    """What the source of these images lists, before any of them is looked at; codes are open already.

    Raises:
        ApercuError: nothing here reads them.
    """
    # A folder of files is what remains when no layout claims the folder for its own.
    for name in sorted(registry.names("data/sources"), key=lambda name: name == "folder"):
        source = registry.load("data/sources", name)
        if source.accepts(images):
            found: Found | Images = source.open(images)
            return found
    if isinstance(images, str | Path):
        there = Path(images).expanduser().exists()
        raise ApercuError(
            f"{str(images)!r} is no file that holds images: name a folder, or a CSV, .npz, idx, parquet or COCO file"
            if there
            else f"there is no file or folder {str(images)!r}: check the name"
        )
    raise ApercuError(f"a {type(images).__name__} is not images: pass a folder's name, an array, or a list of images")
