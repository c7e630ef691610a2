"""The codecs that everyone has: single files of JPEG, WebP and AVIF at their qualities, PNG, WebP and JPEG XL whole."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from apercu.data.images import ImageSet

Point = tuple[float, float]
"""(bytes, dB)."""
Encode = Callable[[NDArray[Any]], bytes | bytearray]

QUALITIES = {
    "JPEG": (5, 10, 20, 35, 50, 70, 85, 93),
    "WEBP": (1, 10, 25, 45, 65, 85, 95),
    "AVIF": (10, 25, 40, 55, 70, 85),
}
OPTIONS: dict[str, dict[str, Any]] = {"JPEG": {"optimize": True}, "WEBP": {"method": 6}, "AVIF": {}}
"""JPEG with Huffman tables of its own, WebP at its slowest; colour as Pillow does it by default."""
LOSSLESS: dict[str, Encode] = {
    "PNG": partial(imagecodecs.png_encode, level=9),
    "WebP": partial(imagecodecs.webp_encode, lossless=True, level=6),
    "JPEG XL": partial(imagecodecs.jpegxl_encode, lossless=True, effort=7),
}


def decibels(original: NDArray[Any], read: NDArray[Any]) -> float:
    """PSNR of 8-bit pixels, at most 108 dB."""
    error = np.square(original.astype(np.float32) - read.astype(np.float32)).mean()
    return float(10 * np.log10(255**2 / max(1e-6, error)))


def lossy(images: ImageSet, name: str, quality: int) -> Point:
    """(bytes, PSNR) of single files, the mean over images; WebP and AVIF have no grey, and give it back as colour."""
    points = []
    for pixels in _each(images):
        data = io.BytesIO()
        Image.fromarray(pixels).save(data, name, quality=quality, **OPTIONS[name])
        with Image.open(data) as read:
            again = np.asarray(read.convert("RGB" if pixels.ndim == 3 else "L"))
        points.append((float(len(data.getvalue())), decibels(pixels, again)))
    size, reached = np.mean(points, 0).tolist()
    return size, reached


def lossless(images: ImageSet, name: str) -> float:
    """Bytes of single files, the mean over images; WebP has no grey, so it gets three equal channels."""
    wide, encode = name == "WebP", LOSSLESS[name]
    sizes = [len(encode(np.stack([p] * 3, -1) if wide and p.ndim == 2 else p)) for p in _each(images)]
    return float(np.mean(sizes))


def draw(found: dict[str, list[Point]], path: Path, label: str) -> None:
    """A plot of the curves of several codecs, ours drawn wider."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4), layout="constrained")
    for name, points in found.items():
        rates, reached = zip(*sorted(points), strict=True)
        axes.plot(rates, reached, marker="o", markersize=3, label=name, linewidth=2 if name == "apercu" else 1)
    axes.set(xlabel=label, ylabel="PSNR, dB", xscale="log")
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def _each(images: ImageSet) -> Iterator[NDArray[Any]]:
    """Each image as other libraries take it: (H, W), or (H, W, 3)."""
    for k in range(len(images)):
        pixels = images.read([k])[0]
        yield np.ascontiguousarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
