"""Images as a trained model sees them: its channels, its size, its range; or one sentence of advice."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apercu.data.convert import Fit
from apercu.data.images import ImageSet, Problem
from apercu.data.open import Images, open_images
from apercu.errors import ApercuError
from apercu.types import ImageSpec

_RESIZED = "size={0}x{1} and fit=resize, crop or pad (--size {0}x{1} --fit resize)"
KIND = {1: "grey", 3: "colour"}


@dataclass(frozen=True)
class Wanted:
    """What a model needs: its `spec`, whether every image must have that size, and how its own were made so."""

    spec: ImageSpec
    fixed_size: bool
    size: str | int | tuple[int, int] | None = None
    fit: Fit = "error"
    channels: int | None = None


def conform(images: object, wanted: Wanted, split: str = "all") -> ImageSet:
    """Open `images` in their own order, treated as the model's training images were.

    Raises:
        ApercuError: they cannot be read, or they are of another kind, with advice on how to convert them.
    """
    if isinstance(images, ImageSet):
        return _check(images, wanted)
    if isinstance(images, Images):
        return _check(images.split(split), wanted)
    bare = hasattr(images, "__array__") and not hasattr(images, "getexif")
    given = _in_stored_values(images, wanted.spec) if bare else images
    opened = open_images(given, size=wanted.size, fit=wanted.fit, channels=wanted.channels)
    chosen = opened.split(split)
    if split == "all":
        chosen = chosen.subset(np.argsort(chosen.rows, kind="stable"))
    if bare:
        chosen = replace(chosen, spec=replace(chosen.spec, maximum=wanted.spec.maximum))
    return _check(chosen, wanted)


def of_size(images: ImageSet, wanted: Wanted) -> tuple[ImageSet, list[Problem]]:
    """Those of the images whose size the model can take, and why not the others."""
    if not wanted.fixed_size:
        return images, []
    size = (wanted.spec.height, wanted.spec.width)
    fits = (images.sizes == size).all(1)
    problems = [
        Problem(images.ids[k], _other_size(images, k, wanted.spec) + "take " + _RESIZED.format(*size))
        for k in np.flatnonzero(~fits).tolist()
    ]
    spec = replace(images.spec, height=size[0], width=size[1], uniform=True)
    return replace(images.subset(fits), spec=spec), problems


def _other_size(images: ImageSet, index: int, spec: ImageSpec) -> str:
    height, width = images.sizes[index]
    return f"is {height}×{width}, this model was trained on {spec.height}×{spec.width}; "


def _in_stored_values(images: Any, spec: ImageSpec) -> NDArray[Any]:  # noqa: ANN401
    """An array that holds the values that the model's own images were stored with, in their type."""
    array: NDArray[Any] = np.asarray(images.detach().cpu() if hasattr(images, "detach") else images)
    if spec.maximum == 1:
        return array.astype(np.float32)
    if array.size and (not np.isfinite(array).all() or array.min() < 0 or array.max() > spec.maximum):
        raise ApercuError(
            f"this model was trained on values from 0 to {spec.maximum:g} and these lie outside; "
            "scale the array to that range, or pass image files"
        )
    if array.dtype.kind == "f" and array.size and array.max() <= 1 and (array != np.rint(array)).any():
        raise ApercuError(
            f"these values lie between 0 and 1 and this model was trained on 0 to {spec.maximum:g}; "
            f"multiply them by {spec.maximum:g}"
        )
    stored: NDArray[Any] = np.rint(array).astype(spec.dtype)
    return stored


def _check(images: ImageSet, wanted: Wanted) -> ImageSet:
    have, want = images.spec, wanted.spec
    if len(images) == 0:
        return images
    if have.channels != want.channels:
        kind = KIND.get(want.channels, f"{want.channels}-channel")
        raise ApercuError(
            f"{images.ids[0]} has {have.channels} channels, this model was trained on {want.channels}; "
            f"convert the images to {kind}, or open them with channels={want.channels} (--channels {want.channels})"
        )
    if wanted.fixed_size:
        other = np.flatnonzero((images.sizes != (want.height, want.width)).any(axis=1))
        if len(other):
            words = f"{images.ids[other[0]]} {_other_size(images, other[0], want)}"
            raise ApercuError(words + "open the images with " + _RESIZED.format(want.height, want.width))
    return images
