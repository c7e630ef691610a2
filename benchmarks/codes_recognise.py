"""Recognition from the codes alone: Fashion-MNIST, all labels, an archive of at most 48 bytes an image.

Bytes are those of the whole archive, header and index among them, over its images. The classifier is given the archive
and nothing else: symbols are read, turned into the numbers that they stand for, and no pixel is decoded. Candidates:

    vae_cnn   learnt with all labels, its code rounded; answered by its own head
    vqvae     with a label head, or without one and an MLP on its symbols' vectors
    codec     the finest quality whose archive is small enough, and an MLP on its numbers

Each is trained for ten minutes. What is chosen (the quality, and in the end the candidate) is chosen on validation
images, a tenth of the official training images; the chosen one alone is measured on the test images.

Run: OMP_NUM_THREADS=1 python benchmarks/codes_recognise.py [--minutes 10] [--seed 0] [--only "vae_cnn 32;vqvae, head"]
     … --minutes 0.1 --images 200 --steps 20 --only "vae_cnn 16" --name try --models /tmp/try
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import apercu
from apercu.api import Model
from apercu.codec.archived import open_archive
from apercu.codec.codec import kept_codec
from apercu.data.images import ImageSet
from apercu.data.open import open_images
from apercu.errors import ApercuError
from apercu.tasks import _probe
from apercu.tasks.compress import Compress
from apercu.training import Training

from pictures import first
from rate_distortion import archived, kept
from record import SHARED, Record

MOST = 48.0
PROBE, PROBED = "probe.skops", 20_000
"""The file of a probe, and how many images it learns from."""
QUALITIES = np.arange(1, 6.25, 0.25).tolist()
CLOTHES = {"width": 16, "domain": "objects"}


@dataclass(frozen=True)
class Candidate:
    """How a model is trained, and whether a probe answers in place of its head."""

    preset: str
    settings: dict[str, Any]
    batch: int = 256
    rate: float = 2e-3
    probe: bool = False


CANDIDATES = {
    "vae_cnn 16": Candidate("vae_cnn", CLOTHES | {"dim": 16}),
    "vae_cnn 32": Candidate("vae_cnn", CLOTHES | {"dim": 32}),
    "vae_cnn 32, weak views": Candidate("vae_cnn", CLOTHES | {"dim": 32, "augment": 0.3}),
    "vae_cnn 32, no views": Candidate("vae_cnn", CLOTHES | {"dim": 32, "augment": 0.0}),
    "vqvae, head": Candidate("vqvae", {"encoder": "conv", "lam": 784.0}, rate=1e-3),
    "vqvae, probe": Candidate("vqvae", {"encoder": "conv"}, rate=1e-3, probe=True),
    "codec, probe": Candidate(
        "codec", {"prior": "factorised", "depth": 2, "dim": 16, "lam": 60.0}, 128, 1e-3, probe=True
    ),
}


@dataclass(frozen=True)
class Run:
    """How large a run is."""

    record: Record
    minutes: float
    images: int
    steps: int
    seed: int
    models: Path

    def once(self, key: str, measure: Any) -> Any:  # noqa: ANN401
        """A figure of this seed."""
        return self.record.once(f"{key}, seed {self.seed}", measure)

    def images_of(self, split: str, most: int = 60_000) -> ImageSet:
        """Fashion-MNIST with its labels."""
        return first(open_images(SHARED / "fashion_mnist").split(split), min(most, self.images))

    def folder(self, name: str) -> Path:
        """Where the model of a candidate is kept."""
        return self.models / f"{name.replace(',', '').replace(' ', '-')}-{self.seed}"

    def model(self, name: str) -> Model:
        """The model of a candidate, trained and with its tables, or as it was kept."""
        candidate, folder = CANDIDATES[name], self.folder(name)
        if not (folder / "apercu.json").exists():
            training = Training(
                minutes=self.minutes, batch=candidate.batch, learning_rate=candidate.rate, seed=self.seed
            )
            data = open_images(SHARED / "fashion_mnist")
            apercu.fit(data, preset=candidate.preset, settings=candidate.settings, training=training, out=folder)
        model = apercu.load(folder)
        if kept_codec(model) is None:
            Compress(model, steps=self.steps).fit(self.images_of("train", 20_000))
        return model

    def archive(self, model: Model, images: ImageSet, quality: float | None) -> float:
        """Write the images, and say how many bytes each takes."""
        codec = kept(model)
        written = [pair for batch in codec.encode(images, quality=quality) for pair in batch]
        return archived(codec, [coded for _, coded in sorted(written, key=lambda pair: pair[0])], self.path)

    @property
    def path(self) -> Path:
        """Where an archive is written, to be read again."""
        return self.models / "measured.apca"

    def read(self, model: Model, images: ImageSet) -> ImageSet:
        """What the archive holds of these images: codes alone; their labels are told for learning and for counting."""
        return open_archive(model, self.path).split("all").with_labels(images.labels, images.classes)


def finest(run: Run, name: str, model: Model) -> float | None:
    """The finest quality whose archive of validation images is small enough, else the coarsest; None if it has one."""
    if CANDIDATES[name].preset != "codec":
        return None
    few, small = run.images_of("val", 1000), QUALITIES[0]
    for quality in QUALITIES:
        if run.archive(model, few, quality) > MOST:
            break
        small = quality
    return float(small)


def validated(run: Run, name: str) -> dict[str, Any]:
    """Bytes and accuracy on validation images; a probe is fitted on the way. Else why there are none."""
    try:
        model = run.model(name)
        quality = finest(run, name, model)
        if CANDIDATES[name].probe:
            learnt = run.images_of("train", PROBED)
            run.archive(model, learnt, quality)
            codes = model.features(run.read(model, learnt))
            probe = _probe.fit_probe(codes, learnt.labels, len(learnt.classes), "mlp", run.seed).probe
            (run.folder(name) / PROBE).write_bytes(_probe.dump(probe))
        return {"quality": quality} | measured(run, name, "val", quality)
    except ApercuError as error:
        return {"failed": str(error)}


def measured(run: Run, name: str, split: str, quality: float | None) -> dict[str, float]:
    """Bytes an image of the archive, and the share of its images that are recognised from it."""
    model, images = run.model(name), run.images_of(split)
    size = run.archive(model, images, quality)
    codes = run.read(model, images)
    if CANDIDATES[name].probe:
        predicted = _probe.restore((run.folder(name) / PROBE).read_bytes()).predict(model.features(codes))
    else:
        predicted = model.probabilities(codes).argmax(1)
    return {"bytes": size, "accuracy": float((predicted == images.labels).mean())}


def main(run: Run, names: list[str]) -> None:
    """Every candidate on validation images, then the best that is small enough on test images."""
    found = {name: run.once(f"{name}: validation", partial(validated, run, name)) for name in names}
    small = {name: figures["accuracy"] for name, figures in found.items() if figures.get("bytes", np.inf) <= MOST}
    if not small:
        print(f"no candidate takes {MOST:g} bytes or less")
        return
    best = max(small, key=lambda name: float(small[name]))
    run.once(f"{best}: test", partial(measured, run, best, "test", found[best]["quality"]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=";".join(CANDIDATES), help="names, separated by semicolons")
    parser.add_argument("--minutes", type=float, default=10.0, help="of training, for each candidate")
    parser.add_argument("--images", type=int, default=60_000, help="of each split, at most")
    parser.add_argument("--steps", type=int, default=600, help="of learning the tables")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--models", type=Path, default=Path("/tmp/apercu-codes"))
    parser.add_argument("--name", default="codes_recognise", help="of the results")
    arguments = parser.parse_args()
    arguments.models.mkdir(parents=True, exist_ok=True)
    figures = Record(arguments.name, "Fashion-MNIST recognised from archives: bytes an image, accuracy")
    settings = (arguments.minutes, arguments.images, arguments.steps, arguments.seed, arguments.models)
    main(Run(figures, *settings), arguments.only.split(";"))
