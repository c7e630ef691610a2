"""The mathematics against a known figure: −ln p(x) of binarised MNIST under the usual small VAE.

784-400-40-400-784 with ReLU, Bernoulli pixels, 500 importance-weighted samples per test image. pythae reports 89.78
(200 samples, static binarisation) for this network; Rezende and Mohamed (2015) 89.9. Training images are binarised
anew each time they are read, a coin per pixel; validation and test images once, from a fixed seed. With `--static` the
training images too are binarised once. The first 50,000 images train, the next 10,000 validate. A training that was
stopped goes on from its checkpoint under --models, with other coins.

Run: python benchmarks/likelihood.py [--seeds 0,1,2] [--epochs 900] [--static] [--precision 32] [--models DIR]
"""

from __future__ import annotations

import argparse
import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apercu.data.open import Images, open_images
from apercu.data.pixels import Stack
from apercu.fitting import RUN, prepare
from apercu.tasks.likelihood import Likelihood
from apercu.training import Training

from record import SHARED, Record

SETTINGS = {"encoder": "dense", "width": 400, "dim": 40, "likelihood": "bernoulli", "warmup": 0.0}


class Coins:
    """Grey images that are binarised at every reading: P(white) is the grey level."""

    dtype = np.dtype(np.uint8)

    def __init__(self, grey: NDArray[np.uint8], seed: int | None) -> None:
        self.grey, self.rng = grey, np.random.default_rng(seed)

    def __len__(self) -> int:
        return len(self.grey)

    def read(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """(B, 1, 28, 28) of zeros and ones."""
        grey = self.grey[rows]
        return (self.rng.random(grey.shape, np.float32) < grey / np.float32(255)).astype(np.uint8)


def binarised(static: bool, goes_on: bool = False) -> Images:
    """Binarised MNIST with the usual 50,000 / 10,000 / 10,000."""
    everything = open_images(SHARED / "mnist").split("all")  # the order of the files: 60,000 to train, 10,000 to test
    spec = dataclasses.replace(everything.spec, maximum=1.0)
    coins = Coins(everything.read(np.arange(len(everything))), seed=2020)
    once = dataclasses.replace(everything, spec=spec, pixels=Stack(coins.read(np.arange(len(coins)))))
    again = Coins(coins.grey, seed=None) if goes_on else coins
    fresh = once if static else dataclasses.replace(once, pixels=again)
    train, val, test = np.split(np.arange(70_000), [50_000, 60_000])
    return Images(fresh.subset(train), once.subset(val), once.subset(test), [], [], "binarised MNIST")


def measure(seed: int, epochs: int, static: bool, precision: str, folder: Path) -> dict[str, Any]:
    """Train once and price the test set."""
    training = Training(epochs=epochs, batch=100, learning_rate=1e-3, weight_decay=0.0, seed=seed, precision=precision)
    goes_on = (folder / RUN).exists()
    images = binarised(static, goes_on)
    job = prepare(
        images, preset="vae", settings=SETTINGS, training=training, out=folder, resume=goes_on, overwrite=True
    )
    seconds = 0.0
    for progress in job.run():
        seconds = progress.seconds
        if progress.row and len(progress.history) % 5 == 0:
            total = progress.row["val_pixels"] + progress.row["val_kl"]
            print(f"  epoch {progress.epoch + 1}: validation −ELBO {total:.2f}", flush=True)
    result = Likelihood(job.finish(), samples=500).evaluate(job.data.test)
    return {**result, "epochs": epochs, "training_seconds": round(seconds)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--epochs", type=int, default=900)
    parser.add_argument("--static", action="store_true")
    parser.add_argument("--precision", default="32")
    parser.add_argument("--models", type=Path, default=Path("/tmp/apercu-likelihood"))
    arguments = parser.parse_args()
    record = Record("likelihood", "−ln p(x), nats, binarised MNIST, 500 importance samples; reference 89.78 to 89.9")
    for number in map(int, arguments.seeds.split(",")):
        name = f"{'static' if arguments.static else 'stochastic'}, {arguments.epochs} epochs, seed {number}"
        chosen = (number, arguments.epochs, arguments.static, arguments.precision, arguments.models / name)
        record.once(name, partial(measure, *chosen))
