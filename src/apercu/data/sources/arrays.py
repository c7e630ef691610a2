"""NumPy arrays and torch tensors, with or without labels, and lists of arrays, Pillow images or paths."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from apercu.data.convert import plain
from apercu.data.decode import Decoded, decode_file, decode_pillow
from apercu.data.sources.base import Found, Loader, Part, number_labels, unknown
from apercu.errors import ApercuError

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage


def accepts(images: object) -> bool:
    """Whether `images` is an array, a tensor, a Pillow image, or a list or tuple of these or of paths."""
    return isinstance(images, list | tuple) or hasattr(images, "__array__") or _is_pillow(images)


def open(images: object) -> Found:
    """Take the images as they are; a tuple (x, y) has labels, −1 where unknown.

    Raises:
        ApercuError: the array is not images, or the labels do not fit.
    """
    x, y = _with_labels(images)
    notes: list[str] = []
    pixels, ids = _pixels(x, notes)
    if len(ids) == 0:
        raise ApercuError("there is no image: the list or array is empty")
    labels, classes = (unknown(len(ids)), ()) if y is None else number_labels(_numpy(y))
    if len(labels) != len(ids):
        raise ApercuError(f"there are {len(ids)} images and {len(labels)} labels: give one label for each image")
    return Found([Part(pixels, ids, labels)], classes, notes)


def to_channels_first(array: NDArray[Any], notes: list[str]) -> NDArray[Any]:
    """(N, H, W), (N, H, W, C), (N, C, H, W) or a single image → (N, C, H, W), a view; notes say what was chosen.

    Raises:
        ApercuError: not images.
    """
    if array.ndim == 2:
        array = array[None]
    elif array.ndim == 3 and array.shape[2] in (3, 4) and min(array.shape[:2]) > 4:
        notes.append(f"an array of shape {array.shape} was taken as one colour image")
        array = array[None]
    if array.ndim == 3:
        array = array[:, None]
    elif array.ndim == 4 and _channels_last(array.shape):
        array = np.moveaxis(array, 3, 1)
    elif array.ndim != 4:
        raise ApercuError(f"an array of shape {array.shape} is not images: use (N, H, W), (N, H, W, C) or (N, C, H, W)")
    if 0 in array.shape[1:]:
        raise ApercuError(f"images of shape {array.shape[1:]} have no pixels")
    return array


def _channels_last(shape: tuple[int, ...]) -> bool:
    first, last = shape[1], shape[3]
    usual = (1, 3, 4)
    if (first in usual) != (last in usual):
        return last in usual
    return last < first


def _pixels(x: object, notes: list[str]) -> tuple[NDArray[Any] | list[Loader], list[str]]:
    if _is_pillow(x):
        x = [x]
    if isinstance(x, list | tuple):
        items = [item if _is_pillow(item) or isinstance(item, str | Path) else _numpy(item) for item in x]
        arrays = [item for item in items if isinstance(item, np.ndarray)]
        alike = len({(a.shape, a.dtype) for a in arrays}) == 1
        if not (alike and len(arrays) == len(items)):
            ids = [str(item) if isinstance(item, str | Path) else f"image#{i}" for i, item in enumerate(items)]
            return [partial(_load, item) for item in items], ids
        pixels = np.concatenate([_single(a) for a in arrays])
    else:
        pixels = to_channels_first(_numpy(x), notes)
    return pixels, [f"image#{i}" for i in range(len(pixels))]


def _load(item: object) -> Decoded:
    if isinstance(item, str | Path):
        return decode_file(Path(item).expanduser())
    if _is_pillow(item):
        return decode_pillow(item)
    return Decoded(np.ascontiguousarray(plain(_single(_numpy(item))[0])))


def _single(array: NDArray[Any]) -> NDArray[Any]:
    """One image, (H, W), (H, W, C) or (C, H, W) → (1, C, H, W)."""
    if array.ndim not in (2, 3) or array.size == 0:
        raise ApercuError(f"an array of shape {array.shape} is not one image: use (H, W), (H, W, C) or (C, H, W)")
    return to_channels_first(array[None], [])


def _with_labels(images: object) -> tuple[object, object]:
    """(x, y) as it is; anything else without labels, (images, None)."""
    if isinstance(images, tuple) and len(images) == 2:
        x, y = images
        if y is None:
            return x, y
        if not (isinstance(y, str | Path) or _is_pillow(y)):
            array = _numpy(y)
            if array.ndim == 1 or (array.ndim == 2 and array.shape[1] == 1):
                return x, y
    return images, None


def _is_pillow(item: object) -> TypeGuard[PillowImage]:
    # An object of a module that was never imported cannot be here, so nothing heavy is imported to ask.
    module = sys.modules.get("PIL.Image")
    return module is not None and isinstance(item, module.Image)


def _numpy(x: object) -> NDArray[Any]:
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(x, torch.Tensor):
        tensor = x.detach().cpu()
        return np.asarray(tensor.float() if tensor.dtype == torch.bfloat16 else tensor)
    try:
        return np.asarray(x)
    except ValueError:
        raise ApercuError("the images are lists of unequal lengths: pass arrays of shape (H, W) or (H, W, C)") from None
