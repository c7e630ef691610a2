"""The best recogniser from few labels: `vae_cnn` on every data set and label count that is owed.

For three seeds of label draw and initialisation: accuracy on the official test set, AUROC where there are two classes,
expected calibration error, the labels' baselines in the same run, and the ablation: what each term of the objective
gives. Settings were chosen on validation images. Every figure is kept as soon as it is there; a run that was stopped
goes on where it was.

Run: python benchmarks/few_labels.py [--rows mnist-10,fashion-10] [--seeds 3] [--variants full,baselines]
     CIFAR-10 is read from its binary files in --cifar DIR (see the data's own README for how to unpack them).
"""

from __future__ import annotations

import argparse
import itertools
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import apercu
from apercu.baselines import BASELINES
from apercu.data.labels import hide_labels
from apercu.data.open import Images, open_images
from apercu.fitting import prepare
from apercu.tasks.classify import Classify
from apercu.training import Training

from record import SHARED, Record


@dataclass(frozen=True)
class Row:
    """One line of the table: `labels` per class, 0 for all; `minutes` a run may take on two cores."""

    data: str
    labels: int
    epochs: int
    minutes: int
    floor: float
    aim: float
    settings: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)


CLOTHES = {"width": 32, "domain": "objects", "lam": 7840.0}
ROWS = {
    "mnist-10": Row("mnist", 10, 20, 12, 0.985, 0.991, {"width": 16}),
    "mnist-5": Row("mnist", 5, 20, 12, 0.975, 0.986, {"width": 16}),
    "fashion-10": Row("fashion_mnist", 10, 12, 15, 0.78, 0.84, CLOTHES, {"ema": 0.995}),
    "fashion-100": Row("fashion_mnist", 100, 12, 15, 0.875, 0.905, CLOTHES, {"ema": 0.995}),
    "fashion-all": Row("fashion_mnist", 0, 20, 15, 0.935, 0.95, {"width": 16, "domain": "objects"}),
    "pneumonia-20": Row(
        "pneumoniamnist/pneumoniamnist.npz", 20, 60, 10, 0.88, 0.92, {"width": 16, "domain": "medical"}
    ),
    "pneumonia-all": Row(
        "pneumoniamnist/pneumoniamnist.npz", 0, 60, 10, 0.88, 0.92, {"width": 16, "domain": "medical"}
    ),
    "cifar10-400": Row("cifar10", 400, 30, 40, 0.65, 0.75, {"width": 32, "dim": 128}),
}

KEPT = ("accuracy", "macro_f1", "auroc", "ece")
WITHOUT: dict[str, tuple[str, ...]] = {
    "full": (),
    "without what views teach": ("consistency", "taught"),
    "without telling apart": ("contrast",),
    "without the ELBO": ("pixels", "kl"),
    "labels alone": ("pixels", "kl", "contrast", "consistency", "taught"),
}
"""The ablation: which terms are left out."""


def opened(row: Row, cifar: Path | None) -> Images:
    """The data set of a row with its official test images; validation images come from train."""
    return open_images(cifar if row.data == "cifar10" and cifar is not None else SHARED / row.data)


def few(data: Images, row: Row, seed: int) -> Images:
    """All labels, or so many of each class."""
    return hide_labels(data, row.labels * len(data.train.classes), seed) if row.labels else data


def measure(data: Images, row: Row, seed: int, variant: str, out: Path | None) -> dict[str, Any]:
    """Train once, and look at the official test images once; the model is kept in `out`, if that is given."""
    training = Training(epochs=row.epochs, seed=seed, validations=8, **{"batch": 256} | row.training)
    job = prepare(few(data, row, seed), preset="vae_cnn", settings=row.settings, training=training, out=out)
    terms = job.network.objective.terms
    for name in WITHOUT[variant]:
        terms.pop(name, None)
    started = time.monotonic()
    for progress in job.run():
        if progress.row:
            print(f"  {progress.step} of {progress.steps}: {progress.prices}", flush=True)
    seconds = time.monotonic() - started
    found = Classify(job.finish()).evaluate(data.test)
    return {name: found[name] for name in KEPT if name in found} | {"seconds": round(seconds)}


def neighbours(data: Images, row: Row, seed: int, kept: Path) -> dict[str, Any]:
    """The same model, asked by the method neighbours in place of its head."""
    classify = Classify(apercu.load(kept), method="neighbours")
    classify.fit(few(data, row, seed).train)
    found = classify.evaluate(data.test)
    return {name: found[name] for name in KEPT if name in found}


def baselines(data: Images, row: Row, seed: int) -> dict[str, Any]:
    """What the labels give without an autoencoder."""
    known = few(data, row, seed).train
    if (known.labels >= 0).sum() > 10_000:  # a kernel matrix of all would not fit
        known = known.subset(np.random.default_rng(seed).choice(len(known), 10_000, replace=False))
    return {
        name: float((answer(known, data.test, seed) == data.test.labels).mean()) for name, answer in BASELINES.items()
    }


def main(rows: list[str], seeds: int, variants: list[str], cifar: Path | None, models: Path | None) -> None:
    """Seed by seed, so that a run that was stopped has whole seeds."""
    record = Record(
        "few_labels", "vae_cnn, accuracy on the official test images; seeds of label draw and initialisation"
    )
    for seed, name in itertools.product(range(seeds), rows):
        data = opened(ROWS[name], cifar)
        for variant in variants:
            work = partial(baselines, data, ROWS[name], seed)
            if variant == "neighbours":
                if models is None:
                    raise SystemExit(
                        "the variant neighbours asks models that were kept; name their folder with --models"
                    )
                work = partial(neighbours, data, ROWS[name], seed, models / f"{name}, full, {seed}")
            elif variant != "baselines":
                out = models / f"{name}, {variant}, {seed}" if models is not None else None
                work = partial(measure, data, ROWS[name], seed, variant, out)
            record.once(f"{name}, {variant}, seed {seed}", work)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", default=",".join(ROWS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--variants", default="full,baselines")
    parser.add_argument("--cifar", type=Path)
    parser.add_argument("--models", type=Path, help="where models are kept, if they are to be")
    arguments = parser.parse_args()
    main(arguments.rows.split(","), arguments.seeds, arguments.variants.split(","), arguments.cifar, arguments.models)
