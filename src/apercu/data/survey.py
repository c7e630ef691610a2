"""One look at every image: whether it can be read, its digest, size and type; kept in memory while there is room."""

from __future__ import annotations

import hashlib
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apercu.data.convert import DEPTHS, Resize, plain
from apercu.data.decode import Decoded
from apercu.data.images import Problem
from apercu.data.pixels import in_threads
from apercu.data.sources.base import Found, Loader, Part
from apercu.errors import ApercuError

Progress = Callable[[int, int], None]


@dataclass
class Files:
    """Images that were decoded one by one: how to make them again, and the pixels themselves while they fit."""

    loaders: list[Loader]
    kept: list[NDArray[Any]] | None


@dataclass
class Survey:
    """What is known of the N images that can be read, in order; `sizes` are those after any resizing."""

    ids: list[str] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    splits: list[str] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    stored: list[tuple[int, int]] = field(default_factory=list)
    channels: list[int] = field(default_factory=list)
    depths: list[int] = field(default_factory=list)
    hashes: list[bytes] = field(default_factory=list)
    holdings: list[NDArray[Any] | Files] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    remarks: Counter[str] = field(default_factory=Counter)
    held: int = 0


def survey(found: Found, resize: Resize, memory: int, progress: Progress | None) -> Survey:
    """Look at every image of `found`; `memory` is how many bytes may be kept.

    Raises:
        ApercuError: an array that is not images, naming the first bad one.
    """
    seen = Survey(problems=list(found.problems))
    total, done = sum(len(part.pixels) for part in found.parts), 0

    def tick(count: int) -> None:
        nonlocal done
        done += count
        if progress:
            progress(done, total)

    for part in found.parts:
        pixels = part.pixels
        if isinstance(pixels, np.ndarray):
            array = _plain_array(pixels, part.ids, seen)
            if resize.size is None or array.shape[2:] == resize.size:
                _see_array(array, part, seen)
                tick(len(array))
                continue
            pixels = [partial(row, array, i) for i in range(len(array))]
        _see_files(pixels, part, resize, memory, seen, tick)
    return seen


def digest(image: NDArray[Any]) -> bytes:
    """16 bytes that stand for an image's type, shape and pixels, (C, H, W)."""
    heading = hashlib.blake2b(f"{image.dtype.name}{image.shape}".encode(), digest_size=16)
    heading.update(np.ascontiguousarray(image).data)
    return heading.digest()


def row(array: NDArray[Any], i: int) -> Decoded:
    """One image of an array, as if it had been decoded."""
    return Decoded(array[i])


def _plain_array(array: NDArray[Any], ids: Sequence[str], seen: Survey) -> NDArray[Any]:
    try:
        result = plain(array)
    except ApercuError as error:
        raise ApercuError(f"{_first_bad(array, ids)}{error}") from None
    if result.dtype != array.dtype and array.dtype.kind in "iu" and array.dtype.itemsize > 1:
        white = np.iinfo(result.dtype).max
        seen.remarks[f"{array.dtype} was taken as {result.dtype}, with {white} as white"] += len(array)
    return result


def _first_bad(array: NDArray[Any], ids: Sequence[str]) -> str:
    for i, image in enumerate(array):
        try:
            plain(image)
        except ApercuError:
            return f"{ids[i]}: "
    return ""


def _see_array(array: NDArray[Any], part: Part, seen: Survey) -> None:
    count, channels, height, width = array.shape
    heading = hashlib.blake2b(f"{array.dtype.name}{array.shape[1:]}".encode(), digest_size=16)
    for image in array:
        one = heading.copy()
        one.update(np.ascontiguousarray(image).data)
        seen.hashes.append(one.digest())
    seen.ids += part.ids
    seen.labels += part.labels.tolist()
    seen.splits += [part.split] * count
    seen.sizes += [(height, width)] * count
    seen.stored += [(height, width)] * count
    seen.channels += [channels] * count
    seen.depths += [DEPTHS.index(array.dtype)] * count
    seen.holdings.append(array)
    seen.held += array.nbytes


@dataclass
class _Seen:
    image: NDArray[Any]
    stored: tuple[int, int]
    digest: bytes
    remarks: tuple[str, ...]


def _look(resize: Resize, item: tuple[str, Loader]) -> _Seen | Problem:
    name, loader = item
    try:
        decoded = loader()
    except ApercuError as error:
        return Problem(name, str(error))
    try:
        pixels = decoded.pixels
        stored = (pixels.shape[1], pixels.shape[2])
        return _Seen(resize(pixels), stored, digest(pixels), decoded.remarks)
    except ApercuError as error:
        raise ApercuError(f"{name}: {error}") from None


def _see_files(
    loaders: Sequence[Loader], part: Part, resize: Resize, memory: int, seen: Survey, tick: Callable[[int], None]
) -> None:
    files = Files([], [])
    seen.holdings.append(files)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a decoder's complaint about a file that it reads all the same
        for i, result in enumerate(in_threads(partial(_look, resize), zip(part.ids, loaders, strict=True))):
            tick(1)
            if isinstance(result, Problem):
                seen.problems.append(result)
                continue
            image = result.image
            seen.ids.append(part.ids[i])
            seen.labels.append(int(part.labels[i]))
            seen.splits.append(part.split)
            seen.sizes.append((image.shape[1], image.shape[2]))
            seen.stored.append(result.stored)
            seen.channels.append(image.shape[0])
            seen.depths.append(DEPTHS.index(image.dtype))
            seen.hashes.append(result.digest)
            seen.remarks.update(result.remarks)
            files.loaders.append(loaders[i])
            seen.held += image.nbytes
            if seen.held > memory:
                files.kept = None
            elif files.kept is not None:
                files.kept.append(image)
