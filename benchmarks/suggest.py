"""Labels that `suggest` chooses, beside as many random ones: Fashion-MNIST, five rounds of 50, three seeds.

A small VAE learns from all training images without labels, once. In every round 50 more are labelled, and probes
on the frozen code are fitted to all labels so far and measured on the official test images: a linear one, and the best
by cross-validation on these labels. Where random choice is after each round, how many labels does `suggest` need to get
there (interpolated between rounds, from chance at no labels), as a share? The method was chosen on held-out training
images.

Run: python benchmarks/suggest.py [--seeds 3] [--model DIR]      (DIR keeps the VAE; a temporary folder by default)
"""

from __future__ import annotations

import argparse
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apercu.api import Model, load
from apercu.data.open import Images, open_images
from apercu.fitting import fit
from apercu.tasks._probe import fit_probe
from apercu.tasks.suggest import Suggest
from apercu.training import Training

from record import SHARED, Record

ROUNDS, EACH = 5, 50
PROBES = ("linear", "best")
LABELS = [EACH * (k + 1) for k in range(ROUNDS)]
Rows = NDArray[np.int64]


def trained(folder: Path) -> Model:
    """The VAE in `folder`, trained now if it is not there yet."""
    if not (folder / "apercu.json").is_file():
        training = Training(epochs=2, batch=256, learning_rate=1e-3, device="cpu", validations=2)
        fit(SHARED / "fashion_mnist", preset="vae", out=folder, training=training, overwrite=True)
    return load(folder, "cpu")


def chosen(model: Model, data: Images, seed: int, suggested: bool) -> list[Rows]:
    """The rows of the training images that are labelled after each round."""
    images = data.train
    if not suggested:
        order = np.random.default_rng(seed).permutation(len(images))
        return [order[:count] for count in LABELS]
    place = {name: i for i, name in enumerate(images.ids)}
    rows, rounds = np.empty(0, np.int64), []
    for number in range(ROUNDS):
        known = np.full(len(images), -1)
        known[rows] = images.labels[rows]
        task = Suggest(model, n=EACH, seed=ROUNDS * seed + number)
        found = task(images.with_labels(known))["suggestions"]
        rows = np.append(rows, [place[row["id"]] for row in found])
        rounds.append(rows)
    return rounds


def measure(model: Model, data: Images, seed: int, suggested: bool) -> dict[str, Any]:
    """Test accuracy after each round, by each probe."""
    classes, test = len(data.train.classes), model.features(data.test)
    result: dict[str, Any] = {probe: [] for probe in PROBES}
    for rows in chosen(model, data, seed, suggested):
        x, y = model.features(data.train.subset(rows)), data.train.labels[rows]
        for probe in PROBES:
            fitted = fit_probe(x, y, classes, probe, seed).probe
            result[probe].append(float((fitted.predict(test) == data.test.labels).mean()))
    return result


def needed(accuracies: list[float], target: float, chance: float) -> float | None:
    """Labels from which on the target is reached, interpolated; None if it is not."""
    x, y = [0, *LABELS], [chance, *accuracies]
    for i in range(1, len(y)):
        if y[i] >= target:
            return x[i - 1] + (x[i] - x[i - 1]) * max(0.0, target - y[i - 1]) / (y[i] - y[i - 1])
    return None


def summary(record: Record, seeds: int, classes: int) -> dict[str, Any]:
    """Means over the seeds, and the share of labels that `suggest` needs to be where random choice is."""
    result: dict[str, Any] = {"labels": LABELS}
    for probe in PROBES:
        runs = {
            name: np.array([record.figures[f"{name}, seed {seed}"][probe] for seed in range(seeds)])
            for name in ("suggest", "random")
        }
        means = {name: values.mean(0) for name, values in runs.items()}
        reached = [needed(means["suggest"].tolist(), target, 1 / classes) for target in means["random"]]
        result[probe] = {
            **{name: values.round(4).tolist() for name, values in means.items()},
            **{f"{name}, deviation": values.std(0, ddof=1).round(4).tolist() for name, values in runs.items()},
            "share": [None if r is None else round(float(r) / n, 3) for r, n in zip(reached, LABELS, strict=True)],
        }
    return result


def main(seeds: int, folder: Path) -> None:
    """Seed by seed, then the means."""
    record = Record("suggest", "Fashion-MNIST, test accuracy after five rounds of 50 labels, suggested and random")
    data, model = open_images(SHARED / "fashion_mnist"), trained(folder)
    for seed in range(seeds):
        for name in ("random", "suggest"):
            record.once(f"{name}, seed {seed}", partial(measure, model, data, seed, name == "suggest"))
    if seeds > 1:
        record.put("summary", summary(record, seeds, len(data.train.classes)))
        print(record.figures["summary"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--model", type=Path, default=Path(tempfile.gettempdir()) / "apercu-benchmark-suggest")
    arguments = parser.parse_args()
    main(arguments.seeds, arguments.model)
