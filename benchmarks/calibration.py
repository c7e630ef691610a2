"""What the probabilities of a recogniser are worth on Fashion-MNIST, trained with all labels.

The official test set is split at random into two halves, twenty times: one half calibrates, on the other are measured
the expected calibration error (15 bins) before and after, how often the sets hold the class and how large they are, and
the errors among the answers that do not abstain.

Run: python benchmarks/calibration.py [--seeds 3] [--minutes 15] [--model MODEL]
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import apercu
from apercu.api import Model
from apercu.data.images import ImageSet
from apercu.data.open import Images, open_images
from apercu.tasks._calibration import Evidence, calibration_error, digests, logits_of, promise, tempered
from apercu.training import Training

from record import SHARED, Record

SPLITS = 20
COVERAGE, ERROR = 0.9, 0.05


def measure(model: Model, test: ImageSet) -> dict[str, Any]:
    """Mean, least and most of every figure over the splits."""
    logits, truth, seen = logits_of(model.probabilities(test)), test.labels, digests(test)
    rows = []
    for split in range(SPLITS):
        order = np.random.default_rng(split).permutation(len(test))
        one, other = order[::2], order[1::2]
        evidence = Evidence(logits[one], truth[one], seen[one])
        promised = promise(evidence.calibration(), COVERAGE, ERROR)
        p = tempered(logits[other], promised.temperature)
        before = calibration_error(tempered(logits[other], 1), truth[other])
        temperature = {"temperature": promised.temperature, "ece_before": before}
        rows.append(promised.measured(p, truth[other]) | temperature)
    figures = {name: [row[name] for row in rows] for name in rows[0]}
    spread = {name: {"mean": np.mean(v), "least": min(v), "most": max(v)} for name, v in figures.items()}
    rounded = {name: {key: round(float(v), 5) for key, v in row.items()} for name, row in spread.items()}
    return {"accuracy": float((logits.argmax(1) == truth).mean())} | rounded


def trained(data: Images, seed: int, minutes: float) -> dict[str, Any]:
    """Train for so long, then measure."""
    training = Training(minutes=minutes, batch=256, seed=seed)
    return measure(apercu.fit(data, preset="vae_cnn", settings={"width": 16}, training=training), data.test)


def main(seeds: int, minutes: float, folder: Path | None) -> None:
    """Of a model that is there, or of as many new ones as there are seeds."""
    about = f"Fashion-MNIST, all labels, {SPLITS} splits of the test set; coverage {COVERAGE}, error {ERROR}"
    record, data = Record("calibration", about), open_images(SHARED / "fashion_mnist")
    if folder is not None:
        record.once(folder.resolve().name, partial(measure, apercu.load(folder), data.test))
        return
    for seed in range(seeds):
        record.once(f"vae_cnn, {minutes:g} minutes, seed {seed}", partial(trained, data, seed, minutes))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--model", type=Path)
    arguments = parser.parse_args()
    main(arguments.seeds, arguments.minutes, arguments.model)
