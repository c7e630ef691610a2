"""The quantizers of `vqvae` side by side: 600 steps on Fashion-MNIST, one network, about the same bits in an image.

Each learns from the same 12,800 images, six epochs of 100 steps, on one thread and from one seed. Measured on 2,000
test images: PSNR, the bits of an image's symbols packed without a model, their entropy (what an entropy coder spends
with one table for each symbol of a token), their perplexity, and the share of codes in use.

Run: OMP_NUM_THREADS=1 python benchmarks/quantizers.py [--only "vq;rvq 3 x 8"] [--seed 0]
"""

from __future__ import annotations

import argparse
import math
import time
from functools import partial
from typing import Any

import numpy as np
import torch

from apercu.bottlenecks.base import Quantizer, Use
from apercu.bottlenecks.fsq import FSQ
from apercu.data.images import ImageSet
from apercu.data.open import open_images
from apercu.metrics import psnr
from apercu.model import Autoencoder
from apercu.presets import build
from apercu.train import train
from apercu.training import Training
from apercu.validate import concatenate

from record import SHARED, Record

TRAIN, TEST, EPOCHS, BATCH = 12_800, 2_000, 6, 128
NETWORK = {"encoder": "conv"}
RUNS: dict[str, dict[str, Any]] = {
    "vq": {},
    "vq rotation": {"gradient": "rotation"},
    "vq cosine": {"distance": "cosine"},
    "fsq 8,8,8": {"quantizer": "fsq", "levels": (8, 8, 8)},
    "fsq 8,5,5,5": {"quantizer": "fsq"},
    "rvq 3 x 8": {"quantizer": "rvq", "stages": 3, "codes": 8},
    "rvq 4 x 512": {"quantizer": "rvq"},
    "uniform, rate 0.5": {"quantizer": "uniform", "rate": 0.5},
}
"""Settings beyond those of the network; the first is the preset's default."""


def measure(images: ImageSet, test: ImageSet, settings: dict[str, Any], seed: int) -> dict[str, Any]:
    """Train, then look at the test images."""
    torch.manual_seed(seed)
    model = build("vqvae", images.spec, 0, NETWORK | settings)
    training = Training(epochs=EPOCHS, batch=BATCH, seed=seed, device="cpu", validations=1)
    started = time.monotonic()
    for _ in train(model, images, images.subset(np.arange(256)), training):
        pass
    return {"seconds": round(time.monotonic() - started)} | look(model, test)


@torch.no_grad()
def look(model: Autoencoder, test: ImageSet) -> dict[str, Any]:
    """PSNR and the use of the symbols."""
    from apercu.data.batches import in_order

    quantizer = model.bottleneck
    if not isinstance(quantizer, Quantizer):
        raise TypeError("this benchmark compares quantizers")
    codes, decibels, model = [], [], model.eval()
    for batch in in_order(test, 250, "cpu"):
        output = model(batch)
        codes.append(output.code)
        decibels.append(psnr(batch.x, output.pixels.mean))
    whole = concatenate(codes)
    health = quantizer.health(whole)
    result = {
        "psnr": round(float(torch.cat(decibels).mean()), 2),
        "packed_bits": round(whole.z.shape[1] * sum(math.log2(size) for size in quantizer.alphabet), 1),
        "entropy_bits": round(whole.z.shape[1] * health.measures["bits"], 1),
        "perplexity": [round(use.perplexity, 1) for use in health.symbols],
        "use": round(sum(use.used for use in health.symbols) / sum(quantizer.alphabet), 4),
    }
    if isinstance(quantizer, FSQ):  # what one table for each dimension would take
        levels = (whole.symbols // quantizer.place % quantizer.levels).flatten(0, 1)
        shares = [torch.bincount(level).double() / len(level) for level in levels.T]
        bits = sum(Use(share.tolist()).bits for share in shares)
        result["entropy_bits_by_dimension"] = round(whole.z.shape[1] * bits, 1)
    return result


def main(only: list[str], seed: int) -> None:
    """Every run that is asked for and not known yet."""
    record = Record("quantizers", "vqvae on Fashion-MNIST, 600 steps, 2,000 test images: PSNR in dB, bits an image")
    data = open_images(SHARED / "fashion_mnist")
    images, test = data.train.subset(np.arange(TRAIN)), data.test.subset(np.arange(TEST))
    for name in only:
        record.once(f"{name}, seed {seed}", partial(measure, images, test, RUNS[name], seed))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default=";".join(RUNS), help="names, separated by semicolons")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    main(arguments.only.split(";"), arguments.seed)
