"""What a source lists, image by image, before any of them is looked at, and then some of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apercu.data.agree import agree
from apercu.data.convert import Fit, Resize, parse_size
from apercu.data.decode import decode_file
from apercu.data.images import ImageSet, Problem
from apercu.data.open import Images, find
from apercu.data.sources.base import Part
from apercu.data.survey import survey
from apercu.errors import ApercuError


@dataclass(frozen=True)
class Entry:
    """An image of a source; `file`: of its own, None where it stands in a file with others."""

    id: str
    label: str | None
    split: str
    file: Path | None


class Listing:
    """The images of a source in their order."""

    def __init__(self, images: object) -> None:
        """List them.

        Raises:
            ApercuError: nothing here reads them, or they are codes.
        """
        found = find(images)
        if isinstance(found, Images):
            raise ApercuError("these are codes already; name the images that they were made of")
        self.found = found
        self._starts = np.cumsum([0, *(len(part.ids) for part in found.parts)])
        self.entries = [entry for part in found.parts for entry in _entries(part, found.classes)]

    def open(
        self, rows: Sequence[int], size: str | int | None, fit: Fit, channels: int | None, memory: int
    ) -> tuple[ImageSet | None, list[int], list[Problem]]:
        """These images, ascending, as `open_images` opens them; the rows that could be read, and what could not.

        Raises:
            ApercuError: the images do not fit together.
        """
        parts = []
        for part, start in zip(self.found.parts, self._starts.tolist(), strict=False):
            some = [row - start for row in rows if start <= row < start + len(part.ids)]
            if some:
                parts.append(_some(part, some))
        found = replace(self.found, parts=parts, problems=[], notes=[])
        resize = Resize(parse_size(size), fit)
        seen = survey(found, resize, memory, None)
        broken = {problem.id for problem in seen.problems}
        read = [row for row in rows if self.entries[row].id not in broken]
        images = agree(found, seen, resize, channels, memory)[0] if seen.ids else None
        return images, read, seen.problems


def _entries(part: Part, classes: tuple[str, ...]) -> list[Entry]:
    pixels: Any = part.pixels
    loaders = [None] * len(part.ids) if isinstance(pixels, np.ndarray) else pixels
    return [
        Entry(name, classes[label] if label >= 0 else None, part.split, _file(loader))
        for name, label, loader in zip(part.ids, part.labels.tolist(), loaders, strict=True)
    ]


def _file(loader: object) -> Path | None:
    alone = isinstance(loader, partial) and loader.func is decode_file
    return Path(loader.args[0]).absolute() if alone and isinstance(loader, partial) else None


def _some(part: Part, rows: list[int]) -> Part:
    pixels: NDArray[Any] | list[Any]
    pixels = part.pixels[rows] if isinstance(part.pixels, np.ndarray) else [part.pixels[row] for row in rows]
    return Part(pixels, [part.ids[row] for row in rows], part.labels[rows], part.split)
