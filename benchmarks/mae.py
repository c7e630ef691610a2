"""What masking teaches: a masked autoencoder with a linear probe and fine-tuned, beside the same network from scratch.

Pretraining sees all training images and no label. For every number of labels per class (0 is all of them), on the
official test images: the linear probe on the frozen code, the fine-tuned network, and the same network with the same
labels, views and epochs that starts from random weights. Every figure is kept as soon as it is there; pretraining that
was stopped goes on from its checkpoint in build/mae.

Run: python benchmarks/mae.py [--data mnist] [--labels 10,100,0] [--epochs 30] [--finetune 30] [--seeds 3]
     python benchmarks/mae.py --data CIFAR --width 192 --blocks 12 --epochs 400 --finetune 100 --batch 1024
     CIFAR is the folder of CIFAR-10's binary files (see the data's own README for how to unpack them).
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import apercu
from apercu.api import Model
from apercu.augment import views_for
from apercu.data.images import ImageSet
from apercu.data.labels import hide_labels
from apercu.data.open import Images, open_images
from apercu.fitting import RUN, prepare
from apercu.objective import Objective, Term, consistency, label
from apercu.store import RECIPE
from apercu.tasks._finetune import with_new_head
from apercu.tasks.classify import Classify
from apercu.tasks.reconstruct import Reconstruct
from apercu.train import train
from apercu.training import Training
from apercu.validate import sample_of

from record import SHARED, Record

BUILD = Path(__file__).resolve().parents[1] / "build" / "mae"
WEIGHT_DECAY = 0.05


@dataclass(frozen=True)
class Run:
    """One size of network and length of training, on one device."""

    name: str
    settings: dict[str, Any]
    epochs: int
    finetune: int
    batch: int
    rate: float
    device: str

    def training(self, epochs: int, seed: int) -> Training:
        """The weight decay of the paper, and few validations."""
        return Training(
            epochs=epochs,
            batch=self.batch,
            learning_rate=self.rate,
            weight_decay=WEIGHT_DECAY,
            validations=10,
            seed=seed,
            device=self.device,
        )


def pretrained(data: Images, run: Run, seed: int) -> Model:
    """The masked autoencoder of this seed, trained unless it is there; probes leave its folder alone."""
    folder = BUILD / f"{run.name}, seed {seed}"
    if not (folder / RECIPE).exists():
        training = run.training(run.epochs, seed)
        going_on = (folder / RUN).exists()
        job = prepare(data, preset="mae", settings=run.settings, training=training, out=folder, resume=going_on)
        for progress in job.run():
            if progress.row:
                print(progress.row, flush=True)
        job.finish()
    model = apercu.load(folder, run.device)
    return Model(model.network, model.recipe, None, run.device)


def labelled(data: Images, per_class: int, seed: int) -> ImageSet:
    """The training images whose label is known: so many of each class, or all of them."""
    few = hide_labels(data, per_class * len(data.train.classes), seed).train if per_class else data.train
    return few.subset(np.flatnonzero(few.labels >= 0))


def probe(data: Images, run: Run, per_class: int, seed: int) -> dict[str, Any]:
    """A linear classifier on the frozen code."""
    task = Classify(pretrained(data, run, seed), method="linear", seed=seed)
    task.fit(labelled(data, per_class, seed))
    return {"accuracy": task.evaluate(data.test)["accuracy"]}


def trained_on(few: ImageSet, test: ImageSet, model: Model, run: Run, seed: int) -> dict[str, Any]:
    """All weights trained by the labels, on a weak and a strong view of every image."""
    started = time.monotonic()
    torch.manual_seed(seed)
    network = with_new_head(model, len(few.classes))
    network.objective = Objective({"label": Term(label), "consistency": Term(consistency)})
    network.views = views_for(network.image)
    for _ in train(network, few, few.subset([]), run.training(run.finetune, seed)):
        pass
    seconds = round(time.monotonic() - started)
    predicted = Model(network, model.recipe, None, run.device).probabilities(test).argmax(1)
    return {"accuracy": float((predicted == test.labels).mean()), "seconds": seconds}


def finetuned(data: Images, run: Run, per_class: int, seed: int) -> dict[str, Any]:
    """From what masking taught."""
    return trained_on(labelled(data, per_class, seed), data.test, pretrained(data, run, seed), run, seed)


def from_scratch(data: Images, run: Run, per_class: int, seed: int) -> dict[str, Any]:
    """From the random weights that pretraining started from."""
    start = prepare(data, preset="mae", settings=run.settings, training=run.training(run.epochs, seed))
    model = Model(start.network, start.recipe, None, run.device)
    return trained_on(labelled(data, per_class, seed), data.test, model, run, seed)


def pretraining(data: Images, run: Run, seed: int) -> dict[str, Any]:
    """What pretraining took, and how well whole images are reconstructed."""
    model = pretrained(data, run, seed)
    validation = model.recipe.metrics["validation"]
    psnr = Reconstruct(model).evaluate(data.test)["psnr"]
    return {"seconds": validation["seconds"], "val_pixels": validation["val_pixels"], "psnr": psnr}


def part_of(data: Images, count: int) -> Images:
    """So many images of every split at most, for a trial; all of them where `count` is 0."""

    def cut(images: ImageSet) -> ImageSet:
        return sample_of(images, count) if count else images

    return dataclasses.replace(data, train=cut(data.train), val=cut(data.val), test=cut(data.test))


def main(data: Images, run: Run, labels: list[int], seeds: int) -> None:
    """Seed by seed, so that a run that was stopped has whole seeds."""
    record = Record("mae", "masked autoencoder: test accuracy of linear probe, fine-tuned, and from scratch; seconds")
    for seed in range(seeds):
        record.once(f"{run.name}, pretraining, seed {seed}", partial(pretraining, data, run, seed))
        for per_class in labels:
            for kind in (probe, finetuned, from_scratch):
                key = f"{run.name}, {kind.__name__} with {per_class or 'all'} labels, seed {seed}"
                record.once(key, partial(kind, data, run, per_class, seed))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="mnist", help="a folder among the real images, or the path of any images")
    parser.add_argument("--labels", default="10,100,0", help="labels per class; 0 for all")
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--blocks", type=int, default=4)
    parser.add_argument("--dim", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=30, help="of pretraining")
    parser.add_argument("--finetune", type=int, default=30, help="epochs with labels")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rate", type=float, default=1e-3, help="peak of the learning rate")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--images", type=int, default=0, help="of every split at most, for a trial; 0 for all")
    given = parser.parse_args()
    place = SHARED / given.data
    opened = part_of(open_images(place if place.exists() else given.data), given.images)
    name = f"{Path(given.data).name} {given.width}×{given.blocks}, code of {given.dim}, {given.epochs} epochs"
    name += f", trial of {given.images}" if given.images else ""
    network = {"width": given.width, "blocks": given.blocks, "dim": given.dim}
    chosen = Run(name, network, given.epochs, given.finetune, given.batch, given.rate, given.device)
    main(opened, chosen, [int(count) for count in given.labels.split(",")], given.seeds)
