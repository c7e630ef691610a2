"""How much of a codebook of 512 codes `vqvae` uses, in a few minutes on one core, for three seeds.

Measured on the official test images: the share of codes that at least one of them uses, the perplexity of the symbols
and PSNR; and how many codes were moved in training because nothing had chosen them.

Run: OMP_NUM_THREADS=1 python benchmarks/codebook_use.py [--data cifar10,fashion_mnist] [--seeds 3] [--minutes 4]
     … --data cifar10 --seeds 1 --minutes 0.05 --images 500 --name try
"""

from __future__ import annotations

import argparse
import itertools
import time
from functools import partial
from typing import Any

from apercu.data.images import ImageSet
from apercu.data.open import open_images
from apercu.fitting import prepare
from apercu.training import Training

from pictures import cifar, first
from quantizers import look
from record import SHARED, Record

SETTINGS = {"encoder": "conv", "dim": 32, "codes": 512}
BATCH = 256


def opened(name: str, split: str, most: int) -> ImageSet:
    """Images of one split, without labels where they are CIFAR-10's."""
    if name == "cifar10":
        return open_images(cifar(split)[0][:most]).split("all")
    return first(open_images(SHARED / name).split(split), most)


def measure(name: str, minutes: float, seed: int, most: int) -> dict[str, Any]:
    """Train, then look at the test images."""
    training = Training(minutes=minutes, batch=BATCH, learning_rate=1e-3, seed=seed, device="cpu")
    learnt = opened(name, "train", most)
    pixels = learnt.read(range(len(learnt)))
    job = prepare(pixels, preset="vqvae", settings=SETTINGS, training=training)
    started, steps = time.monotonic(), sum(1 for _ in job.run())
    told = {"seconds": round(time.monotonic() - started), "steps": steps}
    network = job.finish().network
    revived = int(network.get_buffer("bottleneck.revived"))
    return told | {"revived": revived} | look(network, opened(name, "test", most))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="cifar10,fashion_mnist")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=4.0, help="of training, for each seed")
    parser.add_argument("--images", type=int, default=60_000, help="of each split, at most")
    parser.add_argument("--name", default="codebook_use", help="of the results")
    arguments = parser.parse_args()
    record = Record(arguments.name, "share of 512 codes in use on the test images of each data set")
    for seed, data in itertools.product(range(arguments.seeds), arguments.data.split(",")):
        run = partial(measure, data, arguments.minutes, seed, arguments.images)
        record.once(f"{data}, seed {seed}", run)
