"""One kind of image for a whole set: the widest channels and type win, and it is said in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apercu.data.convert import DEPTHS, WHITE, Resize, Widen
from apercu.data.images import ImageSet, Original
from apercu.data.pixels import Joined, Lazy, Loose, Pixels, Stack
from apercu.data.sources.base import Found, Loader
from apercu.data.survey import Files, Survey, row
from apercu.errors import ApercuError
from apercu.types import ImageSpec


def agree(found: Found, seen: Survey, resize: Resize, channels: int | None, memory: int) -> tuple[ImageSet, list[str]]:
    """All images that can be read as one set, and what was decided for it.

    Raises:
        ApercuError: the images have channels that do not fit together, or no size was named for `fit`.
    """
    notes = found.notes + [f"{_images(count)}: {remark}" for remark, count in seen.remarks.items()]
    target = _agree_channels(seen, channels, notes)
    depth = _agree_depth(seen, notes)
    sizes = np.array(seen.sizes, np.int64)
    uniform = bool((sizes == sizes[0]).all())
    height, width = sizes.max(axis=0).tolist()
    if not uniform:
        if resize.fit != "error":
            raise ApercuError(
                f"the images differ in size: name the size that fit={resize.fit!r} leads to, such as size=64"
            )
        low, high = (f"{h}×{w}" for h, w in (min(seen.sizes), max(seen.sizes)))
        notes.append(f"the images differ in size, {low} to {high}: they stay so unless size= and fit= are given")
    elif resize.size is not None and resize.fit != "error":
        notes.append(f"every image is {height}×{width}, by {resize.fit} where it was not")
    maximum = WHITE[depth] if found.maximum is None else found.maximum
    drawn = _numbers if found.marked else _mask
    spec = ImageSpec(target, height, width, maximum, uniform)
    together = ImageSet(
        spec=spec,
        ids=_unique(seen.ids),
        labels=np.array(seen.labels, np.int64),
        classes=found.classes,
        sizes=sizes,
        hashes=np.frombuffer(b"".join(seen.hashes), np.uint8).reshape(-1, 16),
        pixels=_store(seen, Widen(target, depth), resize, spec, memory),
        rows=np.arange(len(seen.ids)),
        masks={name: partial(drawn, loader, resize) for name, loader in found.masks.items()},
        marked=found.marked,
        original=_original(seen, Widen(target, depth), resize),
    )
    return together, notes


def _original(seen: Survey, widen: Widen, resize: Resize) -> Original | None:
    """The images before any of them was resized; None where none was."""
    if seen.stored == seen.sizes:
        return None
    pixels = Lazy(_remake(seen, widen, Resize(None, "error"), seen.stored), DEPTHS[widen.depth])
    return Original(np.array(seen.stored, np.int64), pixels, resize)


def count_kinds(seen: Survey) -> dict[str, int]:
    """How many images there are of each depth and number of channels, as they were stored, most frequent first."""
    kinds = Counter(zip(seen.depths, seen.channels, strict=True)).most_common()
    return {f"{8 * DEPTHS[depth].itemsize}-bit {_colours(channels)}": count for (depth, channels), count in kinds}


def _colours(channels: int) -> str:
    return {1: "grey", 3: "colour"}.get(channels, f"{channels}-channel")


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count} images"


def _agree_channels(seen: Survey, asked: int | None, notes: list[str]) -> int:
    target = max(seen.channels) if asked is None else asked
    for have, count in sorted(Counter(seen.channels).items()):
        if have == target:
            continue
        if have != 1 and (have, target) != (3, 1):
            name = seen.ids[seen.channels.index(have)]
            raise ApercuError(
                f"{name} has {have} channels where {target} are needed: open images of one kind at a time"
            )
        how = "widened" if have == 1 else "reduced"
        notes.append(f"{_images(count)}: {_colours(have)} was {how} to {_colours(target)}")
    return target


def _agree_depth(seen: Survey, notes: list[str]) -> int:
    depth = max(seen.depths)
    for have, count in sorted(Counter(seen.depths).items()):
        if have != depth:
            how = "×257, exact" if depth == 1 else f"{WHITE[have]:g} becomes 1"
            notes.append(f"{_images(count)}: {DEPTHS[have]} was widened to {DEPTHS[depth]} ({how})")
    return depth


def _store(seen: Survey, widen: Widen, resize: Resize, spec: ImageSpec, memory: int) -> Pixels:
    """One array if there is room, the user's own array if it needs no change, otherwise images made when read."""
    dtype = DEPTHS[widen.depth]
    needed = sum(h * w for h, w in seen.sizes) * spec.channels * dtype.itemsize
    arrays = [h for h in seen.holdings if isinstance(h, np.ndarray)]
    if len(arrays) == len(seen.holdings) and all(a.shape[1:] == spec.shape and a.dtype == dtype for a in arrays):
        if needed <= memory:
            return Stack(np.ascontiguousarray(arrays[0]) if len(arrays) == 1 else np.concatenate(arrays))
        return Stack(arrays[0]) if len(arrays) == 1 else Joined([Stack(a) for a in arrays])
    if needed > memory or any(isinstance(h, Files) and h.kept is None for h in seen.holdings):
        return Lazy(_remake(seen, widen, resize, seen.sizes), dtype)
    images = (widen(image) for holding in seen.holdings for image in _release(holding))
    if not spec.uniform:
        return Loose(list(images))
    stack = np.empty((len(seen.ids), *spec.shape), dtype)
    for i, image in enumerate(images):
        stack[i] = image
    return Stack(stack)


def _release(holding: NDArray[Any] | Files) -> Iterator[NDArray[Any]]:
    """The images of a holding, each freed as soon as it is used, so that two copies of all never stand in memory."""
    if isinstance(holding, np.ndarray):
        yield from holding
    elif holding.kept is not None:
        holding.kept.reverse()
        while holding.kept:
            yield holding.kept.pop()


def _remake(
    seen: Survey, widen: Widen, resize: Resize, sizes: list[tuple[int, int]]
) -> list[Callable[[], NDArray[Any]]]:
    loaders: list[Loader] = []
    for holding in seen.holdings:
        if isinstance(holding, Files):
            loaders += holding.loaders
        else:
            loaders += [partial(row, holding, i) for i in range(len(holding))]
    known = zip(loaders, sizes, seen.ids, strict=True)
    return [partial(_make, loader, resize, widen, size, name) for loader, size, name in known]


def _make(loader: Loader, resize: Resize, widen: Widen, size: tuple[int, int], name: str) -> NDArray[Any]:
    try:
        image = widen(resize(loader().pixels))
    except ApercuError as error:
        raise ApercuError(f"{name}: {error}") from None
    if image.shape[1:] != size or image.dtype != DEPTHS[widen.depth]:
        raise ApercuError(f"{name}: it changed since it was opened: open the images again")
    return image


def _mask(loader: Loader, resize: Resize) -> NDArray[np.bool_]:
    """(H, W): what is at least half as bright as the brightest, antialiased edges and masks of ones included."""
    pixels = resize(loader().pixels).max(0)
    marked: NDArray[np.bool_] = (pixels > 0) & (2.0 * pixels >= pixels.max())
    return marked


def _numbers(loader: Loader, resize: Resize) -> NDArray[np.int16]:
    """(H, W): numbers of classes, which no interpolation may mix."""
    drawn: NDArray[np.int16] = loader().pixels[0].astype(np.int16)
    if resize.size is not None and resize.fit == "resize":
        pairs = zip(resize.size, drawn.shape, strict=True)
        nearest = np.ix_(*((np.arange(n) * 2 + 1) * have // (2 * n) for n, have in pairs))
        drawn = drawn[nearest]
    else:
        drawn = resize(drawn[None])[0]
    return drawn


def _unique(ids: list[str]) -> list[str]:
    if len(set(ids)) == len(ids):
        return ids
    times: Counter[str] = Counter()
    unique = []
    for name in ids:
        times[name] += 1
        unique.append(name if times[name] == 1 else f"{name} ({times[name]})")
    return unique
