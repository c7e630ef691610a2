"""Bytes for quality: the preset `codec` beside JPEG, WebP, AVIF, PNG and JPEG XL, whole files on every side.

    A  files of one's own domain: magnetic tile, learnt from patches of 200 images, measured on the others; BD-rate
    B  Fashion-MNIST: bytes an image at 25 dB, images of an archive against single files
    C  lossless archives of both, against PNG, WebP and JPEG XL

Every figure is kept at once; a run that was stopped goes on. Models are kept under --models.

Run: OMP_NUM_THREADS=1 python benchmarks/rate_distortion.py [--parts ABC] [--minutes 30] [--models /tmp/apercu-rd]
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image

import apercu
from apercu.api import Model
from apercu.codec.archive import MOST, Archive
from apercu.codec.codec import Codec, kept_codec
from apercu.codec.container import Coded, to_file
from apercu.data.images import ImageSet
from apercu.data.open import open_images
from apercu.metrics import bd_rate
from apercu.tasks.compress import Compress
from apercu.training import Training

from record import RESULTS, SHARED, Record

LEARNT, PATCH, PATCHES = 200, 96, 8_000
SETTINGS = {
    "A": {"prior": "hyper"},
    "B": {"prior": "factorised", "depth": 2, "dim": 16, "lam": 60.0},
}
QUALITIES = {
    "JPEG": (5, 10, 20, 35, 50, 70, 85, 93),
    "WEBP": (1, 10, 25, 45, 65, 85, 95),
    "AVIF": (10, 25, 40, 55, 70, 85),
}
GOAL = 25.0
Point = tuple[float, float]


@dataclass(frozen=True)
class Setting:
    """How large a run is."""

    minutes: float
    images: int
    models: Path


def fashion(split: str, most: int) -> ImageSet:
    """Images of Fashion-MNIST."""
    images = open_images(SHARED / "fashion_mnist").split(split)
    return images.subset(np.arange(min(len(images), most)))


def tiles() -> tuple[ImageSet, ImageSet]:
    """Flawless magnetic tiles: 200 to learn from, and the others."""
    images = open_images(SHARED / "magnetic_tile" / "MT_Free", channels=1).split("all")
    order = np.random.default_rng(0).permutation(len(images))
    return images.subset(np.sort(order[:LEARNT])), images.subset(np.sort(order[LEARNT:]))


def patches(images: ImageSet) -> NDArray[Any]:
    """Squares cut at random, each turned over as chance has it: (N, 1, PATCH, PATCH)."""
    rng = np.random.default_rng(0)
    whole = [images.read([k])[0] for k in range(len(images))]
    found = []
    for k in rng.integers(0, len(whole), PATCHES):
        top, left = (rng.integers(0, side - PATCH + 1) for side in whole[k].shape[1:])
        square = whole[k][:, top : top + PATCH, left : left + PATCH]
        found.append(square[:, :: rng.choice([-1, 1]), :: rng.choice([-1, 1])])
    return np.stack(found)


def model_of(part: str, setting: Setting) -> Model:
    """The model of a part, trained and with its tables, or as it was kept."""
    folder = setting.models / part
    if not (folder / "apercu.json").exists():
        learnt = fashion("train", 60_000) if part == "B" else tiles()[0]
        training = Training(minutes=setting.minutes, batch=16 if part == "A" else 128, learning_rate=1e-3)
        drawn = patches(learnt) if part == "A" else learnt.read(np.arange(len(learnt)))
        apercu.fit(drawn, preset="codec", settings=SETTINGS[part], training=training, out=folder)
    model = apercu.load(folder)
    if kept_codec(model) is None:  # whole images have other places and other edges than patches
        Compress(model).fit(model.images(fashion("train", 20_000) if part == "B" else tiles()[0]))
    return model


def decibels(original: NDArray[Any], read: NDArray[Any]) -> float:
    """PSNR of 8-bit pixels."""
    return float(10 * np.log10(255**2 / max(1e-6, np.square(original.astype(float) - read.astype(float)).mean())))


def classical(images: ImageSet, name: str, quality: int) -> Point:
    """(bytes, PSNR) of single files, the mean over images."""
    points = []
    for k in range(len(images)):
        pixels, data = images.read([k])[0, 0], io.BytesIO()
        Image.fromarray(pixels).save(data, name, quality=quality, **({"method": 6} if name == "WEBP" else {}))
        with Image.open(data) as read:
            points.append((float(len(data.getvalue())), decibels(pixels, np.asarray(read.convert("L")))))
    size, quality_reached = np.mean(points, 0).tolist()
    return size, quality_reached


def ours(codec: Codec, images: ImageSet, quality: float, folder: Path | None = None) -> Point:
    """(bytes, PSNR) of single files, or of an image's part of an archive in `folder`."""
    written = [pair for batch in codec.encode(images, quality=quality) for pair in batch]
    values = [decibels(images.read([k])[0], codec.decode([coded])[0]) for k, coded in written]
    sizes = [len(to_file(coded, codec.fingerprint)) for _, coded in written]
    mean = archived(codec, [coded for _, coded in written], folder) if folder else float(np.mean(sizes))
    return mean, float(np.mean(values))


def archived(codec: Codec, images: Sequence[Coded], folder: Path) -> float:
    """Bytes an image of an archive, its header and index among them."""
    path = folder / "benchmark.apca"
    path.unlink(missing_ok=True)
    archive = Archive(path, codec.fingerprint)
    named = [(f"{k:05d}", coded) for k, coded in enumerate(images)]
    for start in range(0, len(named), MOST):
        archive.append(named[start : start + MOST])
    return path.stat().st_size / len(images)


def at_goal(points: Sequence[Point]) -> float | None:
    """Bytes at 25 dB, between the points on either side on a line of ln bytes over dB; None where it is not reached."""
    ordered = sorted(points, key=lambda point: point[1])
    sizes, reached = zip(*ordered, strict=True)
    if not reached[0] <= GOAL <= reached[-1]:
        return None
    return float(np.exp(np.interp(GOAL, reached, np.log(sizes))))


def curves(record: Record, part: str, images: ImageSet, codec: Codec, folder: Path | None) -> dict[str, list[Point]]:
    """Points of every codec, ours at every half quality."""
    found: dict[str, list[Point]] = {}
    for quality in np.arange(1, 6.5, 0.5).tolist():
        found.setdefault("apercu", []).append(
            record.once(f"{part}: apercu {quality:g}", partial(ours, codec, images, quality, folder))
        )
    for name, qualities in QUALITIES.items():
        for level in qualities:
            found.setdefault(name, []).append(
                record.once(f"{part}: {name} {level}", partial(classical, images, name, level))
            )
    return found


def part_a(record: Record, setting: Setting) -> None:
    """Curves and BD-rates on magnetic tile."""
    images = tiles()[1].subset(np.arange(min(setting.images, len(tiles()[1]))))
    codec = kept(model_of("A", setting))
    found = curves(record, "A", images, codec, None)
    for name in QUALITIES:
        record.put(f"A: BD-rate against {name}, %", bd_rate(found[name], found["apercu"]))
    draw(found, "A", "bytes a file, magnetic tile")


def part_b(record: Record, setting: Setting) -> None:
    """Bytes at 25 dB on Fashion-MNIST."""
    images = fashion("test", setting.images)
    codec = kept(model_of("B", setting))
    found = curves(record, "B", images, codec, setting.models)
    sizes = {name: at_goal(points) for name, points in found.items()}
    sizes["PNG"] = record.once("B: PNG", lambda: lossless(images, ENCODERS["PNG"]))
    sizes["WEBP lossless"] = record.once("B: WebP lossless", lambda: lossless(images, ENCODERS["WebP"]))
    record.put("B: bytes at 25 dB", sizes)
    others = [size for name, size in sizes.items() if name != "apercu" and size is not None]
    if sizes["apercu"] is not None:
        record.put("B: share of the best other", sizes["apercu"] / min(others))
    draw(found, "B", "bytes an image, Fashion-MNIST")


ENCODERS: dict[str, Callable[[NDArray[Any]], bytes]] = {
    "PNG": partial(imagecodecs.png_encode, level=9),
    "WebP": partial(imagecodecs.webp_encode, lossless=True, level=6),
    "JPEG XL": partial(imagecodecs.jpegxl_encode, lossless=True, effort=7),
}


def lossless(images: ImageSet, encode: Callable[[NDArray[Any]], bytes]) -> float:
    """Bytes of single files, the mean over images; WebP has no grey, so it gets three equal channels."""
    wide = encode is ENCODERS["WebP"]
    pixels = (images.read([k])[0, 0] for k in range(len(images)))
    return float(np.mean([len(encode(np.stack([p] * 3, -1) if wide else p)) for p in pixels]))


def part_c(record: Record, setting: Setting) -> None:
    """Lossless archives."""
    for part, images in (("B", fashion("test", setting.images)), ("A", tiles()[1])):
        model = model_of(part, setting)
        images = images.subset(np.arange(min(setting.images, len(images), 12 if part == "A" else 300)))
        record.once(f"C: {part} apercu", partial(lossless_archive, model, images, setting.models))
        for name, encode in ENCODERS.items():
            record.once(f"C: {part} {name}", partial(lossless, images, encode))


def lossless_archive(model: Model, images: ImageSet, folder: Path) -> dict[str, float]:
    """Bytes an image at a few qualities of the code below the residual."""
    compress = Compress(model, lossless=True)
    codec = compress.codec(images)
    found = {}
    for quality in (1.0, 3.5, 6.0):
        written = [coded for batch in codec.encode(images, True, quality) for _, coded in batch]
        found[f"quality {quality:g}"] = archived(codec, written, folder)
    return found


def kept(model: Model) -> Codec:
    """The codec of a model that has its tables."""
    codec = kept_codec(model)
    if codec is None:
        raise TypeError("the tables were learnt with the model")
    return codec


def draw(found: dict[str, list[Point]], part: str, label: str) -> None:
    """A plot of the curves."""
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
    figure.savefig(RESULTS / f"rate_distortion_{part}.png", dpi=150)
    pyplot.close(figure)


PARTS = {"A": part_a, "B": part_b, "C": part_c}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", default="ABC")
    parser.add_argument("--minutes", type=float, default=30.0, help="of training, for each model")
    parser.add_argument("--images", type=int, default=1000, help="test images of each part, at most")
    parser.add_argument("--models", type=Path, default=Path("/tmp/apercu-rd"))
    parser.add_argument("--name", default="rate_distortion", help="of the results")
    arguments = parser.parse_args()
    arguments.models.mkdir(parents=True, exist_ok=True)
    chosen = Setting(arguments.minutes, arguments.images, arguments.models)
    figures = Record(arguments.name, f"codec against others, {arguments.minutes:g} minutes of training a model")
    for letter in arguments.parts:
        PARTS[letter](figures, chosen)
