"""Bytes for quality: the preset `codec` beside JPEG, WebP, AVIF, PNG and JPEG XL, whole files on every side.

    A  files of one's own domain: magnetic tile, learnt from patches of 200 images, measured on the others; BD-rate
    B  Fashion-MNIST: bytes an image at 25 dB, images of an archive against single files
    C  lossless archives of both, against single files of PNG, WebP and JPEG XL
    K  24 photographs of Kodak, learnt from photographs that scikit-image ships and from CIFAR-10; BD-rate
    M  lossless archive of MNIST, in bits per dimension; BB-ANS needs 1.41 (Townsend, Bird and Barber, 2019)

PSNR is that of each image, averaged, over all channels together. How fine the code below a lossless file is, is chosen
on images that are not measured. Every figure is kept at once; a run that was stopped goes on. Models are kept under
--models, one for each part and seed.

Run: OMP_NUM_THREADS=1 python benchmarks/rate_distortion.py [--parts ABCKM] [--seed 0] [--minutes 30]
     OMP_NUM_THREADS=1 python benchmarks/rate_distortion.py --minutes 0.1 --images 4 --models /tmp/try --name try
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import apercu
from apercu.api import Model
from apercu.codec.archive import MOST, Archive
from apercu.codec.codec import Codec, kept_codec
from apercu.codec.container import Coded, to_file
from apercu.data.images import ImageSet
from apercu.metrics import bd_rate
from apercu.tasks.compress import Compress
from apercu.training import Training

from classical import LOSSLESS, QUALITIES, Point, decibels, draw, lossless, lossy
from pictures import first, idx, kodak, natural, patches, photographs, tiles
from record import Record

GOAL = 25.0
BELOW = (1.0, 2.0, 3.5, 5.0)
"""Qualities of the code below a lossless file that are tried."""
SMALL = {"prior": "factorised", "depth": 2, "dim": 16, "lam": 60.0}


@dataclass(frozen=True)
class Subject:
    """What a model is trained for.

    `drawn`: what it is trained on, given a seed; `whole`: images of the kind that is compressed, which its tables are
    learnt from; `held`: what choices are made on; `test`: what is measured.
    """

    label: str
    settings: dict[str, Any]
    batch: int
    drawn: Callable[[int], NDArray[Any]]
    whole: Callable[[], ImageSet]
    held: Callable[[], ImageSet]
    test: Callable[[], ImageSet]


def clothes(name: str, label: str, most: int) -> Subject:
    """MNIST or Fashion-MNIST."""
    train = partial(idx, name, "train", 60_000)
    held, test = partial(idx, name, "val", 300), partial(idx, name, "test", most)
    return Subject(label, SMALL, 128, lambda _: every(train()), partial(idx, name, "train", 20_000), held, test)


def every(images: ImageSet) -> NDArray[Any]:
    """The pixels of images of one size."""
    return images.read(np.arange(len(images)))


def tile_patches(seed: int) -> NDArray[Any]:
    """Squares of 96 pixels of 200 magnetic tiles."""
    images = tiles()[0]
    return patches([images.read([k])[0] for k in range(len(images))], 96, 8_000, seed)


def photographs_alike() -> ImageSet:
    """Squares of 256 pixels, most of which, as of a photograph, is far from an edge."""
    return apercu.open_images(patches(photographs()[::2], 256, 200, 1)).split("all")


SUBJECTS = {
    "A": Subject(
        "magnetic tile", {"prior": "context"}, 16, tile_patches, *(lambda: tiles()[0],) * 2, lambda: tiles()[1]
    ),
    "B": clothes("fashion_mnist", "Fashion-MNIST", 1_000),
    "K": Subject(
        "Kodak",
        {"prior": "context", "depth": 4, "dim": 128},
        16,
        partial(natural, 64, 40_000),
        *(photographs_alike,) * 2,
        kodak,
    ),
    "M": clothes("mnist", "MNIST", 10_000),
}


@dataclass(frozen=True)
class Run:
    """Where figures and models are kept, and how large a run is."""

    record: Record
    minutes: float
    images: int
    models: Path
    seed: int
    steps: int

    @property
    def archive(self) -> Path:
        """Where an archive is written to be measured."""
        return self.models / "measured.apca"

    def once(self, key: str, measure: Callable[[], Any]) -> Any:  # noqa: ANN401
        """A figure that depends on the seed."""
        return self.record.once(f"{key}, seed {self.seed}", measure)

    def codec(self, part: str, exact: bool = False) -> Codec:
        """The codec of a part, trained and with its tables, or as it was kept; `exact`: those of lossless files too."""
        subject, folder = SUBJECTS[part], self.models / f"{part}-{self.seed}"
        if not (folder / "apercu.json").exists():
            training = Training(minutes=self.minutes, batch=subject.batch, learning_rate=1e-3, seed=self.seed)
            apercu.fit(
                subject.drawn(self.seed), preset="codec", settings=subject.settings, training=training, out=folder
            )
        model = apercu.load(folder)
        codec = kept_codec(model)
        if codec is None or (exact and codec.lossless is None):
            learnt = first(model.images(subject.whole()), 2 * self.images)
            Compress(model, lossless=exact, steps=self.steps).fit(learnt)
        return kept(model)

    def test(self, part: str, most: int | None = None) -> ImageSet:
        """What is measured, at most as many as are asked for."""
        return first(SUBJECTS[part].test(), min(self.images, most or self.images))


def kept(model: Model) -> Codec:
    """The codec of a model that has its tables."""
    codec = kept_codec(model)
    if codec is None:
        raise TypeError("the tables were learnt with the model")
    return codec


def ours(codec: Codec, images: ImageSet, quality: float, archive: Path | None) -> Point:
    """(bytes, PSNR) of single files, or of an image's part of an archive at this path."""
    written: list[Coded] = []
    reached: list[float] = []
    for batch in codec.encode(images, quality=quality):
        index, coded = zip(*batch, strict=True)
        read = codec.decode(coded)
        reached += [decibels(a, b) for a, b in zip(images.read(index), read, strict=True)]
        written += coded
    sizes = [len(to_file(coded, codec.fingerprint)) for coded in written]
    return archived(codec, written, archive) if archive else float(np.mean(sizes)), float(np.mean(reached))


def archived(codec: Codec, images: Sequence[Coded], path: Path) -> float:
    """Bytes an image of an archive, its header and index among them."""
    path.unlink(missing_ok=True)
    archive = Archive(path, codec.fingerprint)
    named = [(f"{k:05d}", coded) for k, coded in enumerate(images)]
    for start in range(0, len(named), MOST):
        archive.append(named[start : start + MOST])
    return path.stat().st_size / len(images)


def lossless_archive(codec: Codec, images: ImageSet, quality: float, archive: Path) -> float:
    """Bytes an image of a lossless archive above a code of this quality."""
    written = [coded for batch in codec.encode(images, True, quality) for _, coded in batch]
    return archived(codec, written, archive)


def at_goal(points: Sequence[Point]) -> float | None:
    """Bytes at 25 dB, between the points on either side on a line of ln bytes over dB; None where it is not reached."""
    ordered = sorted(points, key=lambda point: point[1])
    sizes, reached = zip(*ordered, strict=True)
    if not reached[0] <= GOAL <= reached[-1]:
        return None
    return float(np.exp(np.interp(GOAL, reached, np.log(sizes))))


def curves(run: Run, part: str, archive: Path | None) -> dict[str, list[Point]]:
    """Points of every codec, ours at every half quality; the others know no seed."""
    images, codec = run.test(part), run.codec(part)
    found: dict[str, list[Point]] = {}
    for quality in np.arange(1, 6.5, 0.5).tolist():
        point = run.once(f"{part}: apercu {quality:g}", partial(ours, codec, images, quality, archive))
        found.setdefault("apercu", []).append(point)
    for name, qualities in QUALITIES.items():
        for level in qualities:
            point = run.record.once(f"{part}: {name} {level}", partial(lossy, images, name, level))
            found.setdefault(name, []).append(point)
    return found


def compared(part: str, run: Run) -> None:
    """Curves and BD-rates of single files."""
    found = curves(run, part, None)
    for name in QUALITIES:
        run.once(f"{part}: BD-rate against {name}, %", partial(bd_rate, found[name], found["apercu"]))
    draw(
        found, run.record.path.with_name(f"{run.record.path.stem}_{part}.png"), f"bytes a file, {SUBJECTS[part].label}"
    )


def small(part: str, run: Run) -> None:
    """Bytes at 25 dB, ours as a part of an archive, for a header matters at this size."""
    found = curves(run, part, run.archive)
    sizes = {name: at_goal(points) for name, points in found.items()}
    for name in ("PNG", "WebP"):
        sizes[f"{name} lossless"] = run.record.once(f"{part} lossless: {name}", partial(lossless, run.test(part), name))
    run.once(f"{part}: bytes at 25 dB", lambda: sizes)
    others = [size for name, size in sizes.items() if name != "apercu" and size is not None]
    own = sizes["apercu"]
    run.once(f"{part}: share of the best other", lambda: None if own is None else own / min(others))
    draw(
        found,
        run.record.path.with_name(f"{run.record.path.stem}_{part}.png"),
        f"bytes an image, {SUBJECTS[part].label}",
    )


def exact(part: str, run: Run, most: int | None = None) -> float:
    """Bytes an image of a lossless archive, at the quality that held-out images are smallest with."""
    held, codec = first(SUBJECTS[part].held(), min(run.images, most or 300)), run.codec(part, exact=True)
    sizes = {
        quality: run.once(
            f"{part} lossless: apercu {quality:g}, held out",
            partial(lossless_archive, codec, held, quality, run.archive),
        )
        for quality in BELOW
    }
    best = min(BELOW, key=lambda quality: float(sizes[quality]))
    test = run.test(part, most)
    size: float = run.once(f"{part} lossless: apercu", partial(lossless_archive, codec, test, best, run.archive))
    return size


def whole(_: str, run: Run) -> None:
    """Lossless archives beside single files."""
    for part, most in (("B", None), ("A", 12)):
        exact(part, run, most)
        for name in LOSSLESS:
            run.record.once(f"{part} lossless: {name}", partial(lossless, run.test(part, most), name))


def dimensions(part: str, run: Run) -> None:
    """Bits for each pixel of MNIST."""
    size = exact(part, run)
    run.once(f"{part} lossless: bits per dimension", lambda: 8 * size / run.test(part).spec.dimensions)


PARTS = {"A": compared, "B": small, "C": whole, "K": compared, "M": dimensions}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default="".join(PARTS))
    parser.add_argument("--seed", type=int, default=0, help="of the patches and of training")
    parser.add_argument("--minutes", type=float, default=30.0, help="of training, for each model")
    parser.add_argument("--images", type=int, default=10_000, help="test images of each part, at most")
    parser.add_argument("--steps", type=int, default=600, help="of learning the tables")
    parser.add_argument("--models", type=Path, default=Path("/tmp/apercu-rd"))
    parser.add_argument("--name", default="rate_distortion", help="of the results")
    arguments = parser.parse_args()
    arguments.models.mkdir(parents=True, exist_ok=True)
    about = f"codec against others, {arguments.minutes:g} minutes of training a model, [bytes, dB] or bytes an image"
    chosen = Run(
        Record(arguments.name, about),
        arguments.minutes,
        arguments.images,
        arguments.models,
        arguments.seed,
        arguments.steps,
    )
    for letter in arguments.parts:
        PARTS[letter](letter, chosen)
