"""Exact conversions: one integer or float type, one number of channels, one size. Nothing is rescaled unasked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from apercu.errors import ApercuError

Fit = Literal["error", "resize", "crop", "pad"]
DEPTHS = (np.dtype(np.uint8), np.dtype(np.uint16), np.dtype(np.float32))
WHITE = (255.0, 65535.0, 1.0)


def plain(pixels: NDArray[Any], *, wide: bool = False) -> NDArray[Any]:
    """The same values as uint8, uint16 or float32; with `wide`, integers of two bytes or more become uint16 always.

    Raises:
        ApercuError: values that none of these types holds, or floats outside [0, 1]; the message is the reason only.
    """
    kind = pixels.dtype.kind
    if kind == "b":
        return pixels.astype(np.uint8) * np.uint8(255)
    if kind in "iu":
        if pixels.dtype in (np.uint8, np.uint16):
            return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
        low, high = (int(pixels.min()), int(pixels.max())) if pixels.size else (0, 0)
        if low < 0 or high > 65535:
            raise ApercuError(f"integers from {low} to {high} fit neither 8 nor 16 bits: scale them to 0 … 65535")
        fits8 = high <= 255 and not (wide and pixels.dtype.itemsize > 1)
        return pixels.astype(np.uint8 if fits8 else np.uint16)
    if kind == "f":
        dark, bright = (float(pixels.min()), float(pixels.max())) if pixels.size else (0.0, 0.0)
        if not (np.isfinite(dark) and np.isfinite(bright)):
            raise ApercuError("it holds NaN or infinite values: replace them first")
        if dark < 0 or bright > 1:
            raise ApercuError(
                f"floating-point values from {dark:g} to {bright:g} are outside [0, 1]: "
                "divide them by the value that means white, or pass integers"
            )
        return pixels.astype(np.float32, copy=False)
    raise ApercuError(f"values of type {pixels.dtype} are not pixels: pass integers or floats in [0, 1]")


@dataclass(frozen=True)
class Widen:
    """(C, H, W) to the channels and type that a whole set shares; only colour is lost, where grey is asked for."""

    channels: int
    depth: int

    def __call__(self, image: NDArray[Any]) -> NDArray[Any]:
        """(channels, H, W).

        Raises:
            ApercuError: no exact way leads from the image's channels to those asked for.
        """
        have = DEPTHS.index(image.dtype)
        if have < self.depth:
            image = widen_depth(image, self.depth)
        if len(image) == self.channels:
            return image
        if len(image) == 1:
            return np.repeat(image, self.channels, axis=0)
        if len(image) == 3 and self.channels == 1:
            return grey(image)
        raise ApercuError(f"an image of {len(image)} channels cannot become one of {self.channels}")


def widen_depth(pixels: NDArray[Any], depth: int) -> NDArray[Any]:
    """8 bits to 16 (×257, exact), or integers to floats in [0, 1]."""
    if DEPTHS[depth] == np.uint16:
        return pixels.astype(np.uint16) * np.uint16(257)
    return (pixels / np.float32(np.iinfo(pixels.dtype).max)).astype(np.float32)


def grey(image: NDArray[Any]) -> NDArray[Any]:
    """The luma of a colour image (ITU-R BT.601), (…, 3, H, W) → (…, 1, H, W), in the same type."""
    red, green, blue = (image[..., c : c + 1, :, :] for c in range(3))
    if image.dtype.kind == "f":
        return (0.299 * red + 0.587 * green + 0.114 * blue).astype(image.dtype)
    wide = (plane.astype(np.uint32) for plane in (red, green, blue))
    weighted = sum(weight * plane for weight, plane in zip((19595, 38470, 7471), wide, strict=True))
    return np.right_shift(weighted + np.uint32(0x8000), 16).astype(image.dtype)


@dataclass(frozen=True)
class Resize:
    """(C, H, W) to one size, by a stated policy; without a size, nothing changes."""

    size: tuple[int, int] | None
    fit: Fit

    def __call__(self, image: NDArray[Any]) -> NDArray[Any]:
        """(C, *size).

        Raises:
            ApercuError: the policy does not lead to the size; the message is the reason only.
        """
        if self.size is None or image.shape[1:] == self.size:
            return image
        (height, width), (h, w) = self.size, image.shape[1:]
        if self.fit == "resize":
            return resize(image, self.size)
        if self.fit == "crop":
            if h < height or w < width:
                raise ApercuError(f"it is {h}×{w}, too small to crop to {height}×{width}: use fit='pad' or 'resize'")
            top, left = (h - height) // 2, (w - width) // 2
            return image[:, top : top + height, left : left + width].copy()  # a view would keep it all
        if self.fit == "pad":
            if h > height or w > width:
                raise ApercuError(f"it is {h}×{w}, too large to pad to {height}×{width}: use fit='crop' or 'resize'")
            top, left = (height - h) // 2, (width - w) // 2
            margins = ((0, 0), (top, height - h - top), (left, width - w - left))
            return np.pad(image, margins, mode="edge")
        raise ApercuError(f"it is {h}×{w}, not {height}×{width}: choose fit='resize', 'crop' or 'pad'")

    def undo(self, values: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
        """What is said of the pixels of a resized image, (C, *self.size), for those of the image as it was, (C, *size);
        0 for those that were cropped away."""
        if values.shape[1:] == size or self.fit == "resize":
            return values if values.shape[1:] == size else resize(values, size)
        (height, width), (h, w) = values.shape[1:], size
        if self.fit == "pad":
            top, left = (height - h) // 2, (width - w) // 2
            return values[:, top : top + h, left : left + w]
        top, left = (h - height) // 2, (w - width) // 2
        return np.pad(values, ((0, 0), (top, h - height - top), (left, w - width - left)))


def resize(image: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """(C, h, w) → (C, *size), bicubic with antialiasing, in the same type and within the image's own range."""
    from PIL import Image

    eight_bits = image.dtype == np.uint8
    planes = []
    for plane in image:
        source = Image.fromarray(np.ascontiguousarray(plane if eight_bits else plane.astype(np.float32)))
        planes.append(np.asarray(source.resize((size[1], size[0]), Image.Resampling.BICUBIC)))
    out = np.stack(planes)
    if image.dtype.kind == "u":
        out = np.rint(out)
    clipped: NDArray[Any] = np.clip(out, image.min(), image.max()).astype(image.dtype)
    return clipped


def parse_size(size: str | int | tuple[int, int] | None) -> tuple[int, int] | None:
    """`64`, `"64"`, `"48x64"` (height × width) or `(48, 64)` as (height, width).

    Raises:
        ApercuError: not a size.
    """
    if size is None:
        return None
    try:
        parts = size.lower().replace("×", "x").split("x") if isinstance(size, str) else np.atleast_1d(size)
        numbers = [int(p) for p in parts]
    except (TypeError, ValueError):
        numbers = []
    if len(numbers) not in (1, 2) or min(numbers) < 1 or max(numbers) > 65535:
        raise ApercuError(f"{size!r} is not a size: write 64, or height × width as 48x64")
    return numbers[0], numbers[-1]
