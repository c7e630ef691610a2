"""The mathematics against a known figure: −ln p(x) of binarised MNIST under the usual small VAE.

784-400-40-400-784 with ReLU, Bernoulli pixels, 500 importance-weighted samples per test image. pythae reports 89.78
(200 samples) for this network, Rezende and Mohamed (2015) 89.9. MNIST is binarised once, by a coin per pixel from a
fixed seed, as the static set of Larochelle and Murray is; the first 50,000 images train, the last 10,000 validate.

Run: python benchmarks/likelihood.py [--seeds 1] [--epochs 300]
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from typing import Any

import numpy as np

from apercu.data.images import ImageSet
from apercu.data.open import Images, open_images
from apercu.fitting import prepare
from apercu.tasks.likelihood import Likelihood
from apercu.training import Training
from record import SHARED, Record

SETTINGS = {"encoder": "dense", "width": 400, "dim": 40, "likelihood": "bernoulli", "warmup": 0.0}


def binarised() -> Images:
    """MNIST with every pixel drawn once from its grey level; the usual 50,000 / 10,000 / 10,000."""
    data = open_images(SHARED / "mnist")
    everything = data.split("all")  # the order of the files: 60,000 for training, 10,000 for testing
    rng = np.random.default_rng(2020)

    def part(start: int, stop: int) -> ImageSet:
        grey = everything.read(np.arange(start, stop))
        ones = (rng.random(grey.shape) < grey / 255.0).astype(np.uint8)
        drawn = open_images(ones).split("all")
        return dataclasses.replace(drawn, spec=dataclasses.replace(drawn.spec, maximum=1.0))

    return Images(part(0, 50_000), part(50_000, 60_000), part(60_000, 70_000), [], [], "binarised MNIST")


def measure(seed: int, epochs: int) -> dict[str, Any]:
    """Train once and price the test set."""
    training = Training(epochs=epochs, batch=100, learning_rate=1e-3, weight_decay=0.0, seed=seed, device="cpu")
    job = prepare(binarised(), preset="vae", settings=SETTINGS, training=training)
    started = time.monotonic()
    for progress in job.run():
        if progress.row and len(progress.history) % 5 == 0:
            total = progress.row["val_pixels"] + progress.row["val_kl"]
            print(f"  epoch {progress.epoch + 1}: validation −ELBO {total:.2f}", flush=True)
    seconds = time.monotonic() - started
    result = Likelihood(job.finish(), samples=500).evaluate(job.data.test)
    return {**result, "epochs": epochs, "training_seconds": round(seconds)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=300)
    arguments = parser.parse_args()
    record = Record("likelihood", "−ln p(x), nats, binarised MNIST, 500 importance samples; reference 89.78 to 89.9")
    for number in range(arguments.seeds):
        record.once(f"seed {number}", lambda n=number: measure(n, arguments.epochs))
