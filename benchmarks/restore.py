"""Restoring, beside what needs no learning: PSNR on images that were not learnt from, every method on the same files.

    digits, fashion   noise of σ = 0.2 on the official test images, against the best of median, non-local means and BM3D
    tile              noise of σ = 25/255 on magnetic tiles: `MT_Free` alone, 180 images to learn from, the other 80 to
                      test, by seed 0 whatever the seed of training; patches of 64 for learning, 128×128 for measuring
    hole              a square hole of a quarter of the image, where it pleases, on Fashion-MNIST: PSNR in the hole,
                      against biharmonic and Telea

Needs the extra `classical`, and bm3d. Every figure is kept as soon as it is there, and a training that was stopped goes
on from its checkpoint in build/restore.

Run: python benchmarks/restore.py [--minutes 20] [--only digits,fashion,tile,hole] [--seeds 1] [--images 200]
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import apercu
from apercu.api import Model
from apercu.corruptions.holes import Holes, fill
from apercu.data.batches import in_order
from apercu.data.images import ImageSet
from apercu.data.open import Images, open_images
from apercu.data.tiles import cut
from apercu.fitting import RUN, prepare
from apercu.store import RECIPE
from apercu.tasks._classical import Comparison
from apercu.tasks._mending import Mender
from apercu.tasks.restore import Restore
from apercu.training import Training
from apercu.validate import sample_of

from record import SHARED, Record

BUILD = Path(__file__).resolve().parents[1] / "build" / "restore"
TEST = 128
"""The side of the patches of magnetic tiles that are measured."""


def tiles() -> Images:
    """180 free magnetic tiles to learn from, 18 of them for validation, and patches of the other 80 to test."""
    free = open_images(SHARED / "magnetic_tile" / "MT_Free").split("all")
    order = np.random.default_rng(0).permutation(len(free))
    train, val, test = (free.subset(np.sort(part)) for part in np.split(order, [162, 180]))
    patches = cut(test, (TEST, TEST)).images
    whole = patches.subset((patches.sizes == TEST).all(1))
    spec = dataclasses.replace(whole.spec, height=TEST, width=TEST, uniform=True)
    return Images(train, val, dataclasses.replace(whole, spec=spec), [], [], "magnetic_tile/MT_Free")


@dataclasses.dataclass(frozen=True)
class Case:
    """What is learnt from and measured on, and the damage."""

    images: Callable[[], Images]
    train: str
    test: str


CASES = {
    "digits": Case(lambda: open_images(SHARED / "mnist"), "noise:0.2", "noise:0.2"),
    "fashion": Case(lambda: open_images(SHARED / "fashion_mnist"), "noise:0.2", "noise:0.2"),
    "tile": Case(tiles, f"noise:{25 / 255:.4f}", f"noise:{25 / 255:.4f}"),
    "hole": Case(lambda: open_images(SHARED / "fashion_mnist"), "holes:0.1-0.35", "square"),
}


def trained(name: str, data: Images, given: argparse.Namespace, seed: int) -> Model:
    """The model of this case, trained unless it is there."""
    folder = BUILD / f"{name}, {given.minutes:g} minutes, width {given.width}, seed {seed}"
    if not (folder / RECIPE).exists():
        training = Training(minutes=given.minutes, batch=given.batch, seed=seed, device=given.device, validations=20)
        settings = {"corruption": CASES[name].train, "width": given.width, "depth": given.depth, "blocks": given.blocks}
        going_on = (folder / RUN).exists()
        job = prepare(data, preset="dae", settings=settings, training=training, out=folder, resume=going_on)
        for progress in job.run():
            if progress.row:
                print(progress.row, flush=True)
        job.finish()
    return apercu.load(folder, given.device)


def squares(x: Tensor) -> Tensor:
    """A square hole of a quarter of each image, (B, 1, H, W) bool, from torch's global generator."""
    height, width = x.shape[2:]
    holes = torch.zeros(len(x), 1, height, width, dtype=torch.bool)
    for hole in holes:
        top, left = (int(torch.randint(side - side // 2 + 1, ())) for side in (height, width))
        hole[:, top : top + height // 2, left : left + width // 2] = True
    return holes.to(x.device)


def square_holes(model: Model, images: ImageSet) -> dict[str, Any]:
    """PSNR in a square hole, of the model and of inpainting."""
    comparison, mender = Comparison(Holes(0.25, 0.25)), Mender(model.network, 256)
    torch.manual_seed(0)
    for batch in in_order(images, 100, model.device):
        hole = squares(batch.x)
        damaged = fill(batch.x, hole)
        comparison.add(batch.x, damaged, mender(damaged, hole), hole)
    return {"n": len(images)} | comparison.result()


def measured(name: str, given: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Train, and measure on the test images."""
    data = CASES[name].images()
    if given.images:
        data = dataclasses.replace(
            data, train=sample_of(data.train, given.images), val=sample_of(data.val, given.images)
        )
    model = trained(name, data, given, seed)
    test = sample_of(data.test, given.test)
    if CASES[name].test == "square":
        return square_holes(model, test)
    return Restore(model, corruption=CASES[name].test, n=given.test).evaluate(test)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(CASES))
    parser.add_argument("--minutes", type=float, default=20.0, help="of training, for each case")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--test", type=int, default=500, help="images to measure, at most")
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--depth", type=int, default=2)
    parser.add_argument("--blocks", type=int, default=2)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--images", type=int, default=0, help="to learn from, for a trial; 0 for all")
    options = parser.parse_args()
    record = Record(
        "restore", "dB of restored test images, of damaged ones and of classical methods; gain over the best"
    )
    for number in range(options.seeds):
        for case in options.only.split(","):
            key = (
                f"{case}, {options.minutes:g} minutes, {options.width}×{options.depth}×{options.blocks}, seed {number}"
            )
            key += f", trial of {options.images}" if options.images else ""
            record.once(key, partial(measured, case, options, number))
