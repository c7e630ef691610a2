"""Images and what is marked in them, as a JSON file of COCO: polygons and run lengths.

Lin et al., "Microsoft COCO: common objects in context" (2014). The images lie where the file says, seen from the file
itself, from the folder above it, or from `images` in one of them; or in the folder that the file is called after, as
`train2017` beside `annotations/instances_train2017.json`.
"""

from __future__ import annotations

import json
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apercu.data.decode import Decoded, check_claim, decode_file
from apercu.data.images import Problem
from apercu.data.sources.base import Found, Loader, Part, as_path, unknown
from apercu.errors import ApercuError

NAMES = ("_annotations.coco.json", "annotations.coco.json", "annotations.json")
BACKGROUND = "background"
NEEDED = "export it again, as an object with lists of images, annotations and categories"
MOST = 32_000
Size = tuple[int, int]


def accepts(images: object) -> bool:
    """Whether `images` names a `.json` file, or a folder that holds one under a name that is usual."""
    return _file(images) is not None


def open(images: object) -> Found:
    """Every image of the file, with a mask of what is annotated in it, which may be nothing.

    Raises:
        ApercuError: not a file of COCO, or there is none of its images.
    """
    path = _file(images)
    if path is None:
        raise ApercuError(f"{images!r} holds no annotations of COCO")
    content = _content(path)
    try:
        names = {int(c["id"]): str(c["name"]) for c in content["categories"]}
        files = {int(row["id"]): (str(row["file_name"]), _size(row)) for row in content["images"]}
        marked = defaultdict(list)
        for row in content["annotations"]:
            marked[int(row["image_id"])].append((int(row["category_id"]), row.get("segmentation")))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        wrong = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise ApercuError(f"{path} is no file of COCO ({wrong}): {NEEDED}") from None
    classes = [number for number in sorted(names) if names[number].lower() != BACKGROUND]
    if not classes or len(classes) > MOST:
        raise ApercuError(f"{path} has {len(classes)} categories; name at least one, and at most {MOST}")
    numbers = {category: place for place, category in enumerate(classes, start=1)}
    loaders, ids, problems, masks = list[Loader](), list[str](), list[Problem](), dict[str, Loader]()
    for image_id, (name, size) in files.items():
        there = _find(path, name)
        if there is None:
            problems.append(Problem(name, f"{path.name} names it, and there is no such file"))
            continue
        ids.append(name)
        loaders.append(partial(decode_file, str(there)))
        drawn = [(numbers.get(category, 0), shape) for category, shape in marked[image_id]]
        masks[name] = partial(_mask, str(there), size, drawn)
    if not ids:
        raise ApercuError(f"none of the {len(files)} images that {path} names is there: put them beside it")
    return Found([Part(loaders, ids, unknown(len(ids)))], (), [], problems, masks=masks, marked=_named(classes, names))


def _named(classes: list[int], names: dict[int, str]) -> tuple[str, ...]:
    """The names of the classes, none twice."""
    labels = [names[number] for number in classes]
    return tuple(
        f"{name} ({number})" if labels.count(name) > 1 else name for number, name in zip(classes, labels, strict=True)
    )


def _file(images: object) -> Path | None:
    path = as_path(images)
    if path is None or not path.exists():
        return None
    if path.is_dir():
        return next((path / name for name in NAMES if (path / name).is_file()), None)
    return path if path.suffix.lower() == ".json" else None


def _content(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ApercuError(
            f"{path} cannot be read as JSON ({error}): restore it from a copy, or export it again"
        ) from None
    if not isinstance(content, dict):
        raise ApercuError(f"{path} is no file of COCO: {NEEDED}")
    return content


def _find(path: Path, name: str) -> Path | None:
    """The file of an image, wherever it lies."""
    here, above = path.parent, path.parent.parent
    called = above / path.stem.removeprefix("instances_")
    places = (here / name, here / "images" / name, above / name, above / "images" / name, called / name)
    return next((place for place in places if place.is_file()), None)


def _size(row: dict[str, Any]) -> Size | None:
    """The size of an image as the file has it."""
    return (int(row["height"]), int(row["width"])) if "height" in row and "width" in row else None


def _mask(image: str, size: Size | None, marked: list[tuple[int, Any]]) -> Decoded:
    """The numbers of what is marked in an image, (1, H, W) int16; where regions overlap the later one counts."""
    height, width = size or decode_file(image).pixels.shape[1:]
    check_claim(width, height)
    numbers = np.zeros((height, width), np.int16)
    for number, shape in marked:
        numbers[drawn(shape, (height, width))] = number
    return Decoded(numbers[None])


def drawn(shape: object, size: Size) -> NDArray[np.bool_]:
    """The pixels of a segmentation, (H, W): polygons [[x, y, x, y, …], …], or {"size", "counts"} of runs.

    Raises:
        ApercuError: it is neither, or of another size than its image.
    """
    try:
        if isinstance(shape, dict):
            counts = shape["counts"]
            return _from_runs(_unpacked(counts) if isinstance(counts, str) else [int(c) for c in counts], shape, size)
        mask = np.zeros(size, np.bool_)
        for corners in shape if isinstance(shape, list) else []:
            mask |= polygon(np.asarray(corners, np.float64).reshape(-1, 2), size)
        return mask
    except ApercuError:
        raise
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise ApercuError(f"a segmentation cannot be read ({error!r})") from None


def polygon(corners: NDArray[np.float64], size: Size) -> NDArray[np.bool_]:
    """The pixels whose centre lies inside of a polygon, (N, 2) with x and y, by the even-odd rule: (H, W).

    In each row the edges that cross it turn inside and outside over, from the crossing on.
    """
    if not np.isfinite(corners).all():
        raise ValueError("a corner that is no number")
    height, width = size
    turns = np.zeros((height, width + 1), np.int64)
    for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        first, last = (int(np.ceil(np.clip(y, 0, height) - 0.5)) for y in sorted((y0, y1)))
        rows = np.arange(max(0, first), min(height, last))
        if len(rows):
            crossings = x0 + (rows + 0.5 - y0) * (x1 - x0) / (y1 - y0)
            np.add.at(turns, (rows, np.clip(np.ceil(crossings - 0.5), 0, width).astype(np.int64)), 1)
    inside: NDArray[np.bool_] = turns[:, :width].cumsum(1) % 2 == 1
    return inside


def _from_runs(counts: list[int], shape: dict[str, Any], size: Size) -> NDArray[np.bool_]:
    """Runs outside and inside in turn, column by column."""
    if tuple(shape["size"]) != size or sum(counts) != size[0] * size[1] or min(counts, default=0) < 0:
        raise ApercuError(f"its runs are of {shape['size']} and the image is {list(size)}: they must be of one size")
    inside = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return inside.reshape(size[1], size[0]).T


def _unpacked(text: str) -> list[int]:
    """The runs that COCO packs into text: 5 bits a letter, from the lowest, the sixth says that more follow; from the
    fourth run on, each is the difference from the one before the last."""
    counts = list[int]()
    value = shift = 0
    for letter in text.encode():
        bits = letter - 48
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value -= (1 << shift) * (bits >> 4 & 1)
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value = shift = 0
    return counts
