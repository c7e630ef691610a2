"""Counterfactuals on MNIST: does the decision really change, in the eyes of a second classifier that was trained apart?

The model (VAE-CNN) learns from one half of the training images and the judge from the other, with another seed, so that
they share no image and no weight. Test images of which the model is right are moved until it decides otherwise; the
share that the judge gives another class too is the figure (floor 90 %, aim 98 %), beside the same of plain
reconstructions, which ought to be 0. A sheet of what was imagined is written beside the models, to be looked at.

Needs the extra `explain`. Every figure is kept as soon as it is there, and a training that was stopped goes on from its
checkpoint in build/counterfactuals.

Run: python benchmarks/counterfactuals.py [--minutes 20] [--seeds 1] [--test 500] [--confidence 0.9,0.99]
"""

from __future__ import annotations

import argparse
import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import apercu
from apercu.api import Model
from apercu.data.images import ImageSet
from apercu.data.open import Images, open_images
from apercu.fitting import RUN, prepare
from apercu.store import RECIPE
from apercu.tasks.explain import Explain
from apercu.training import Training
from apercu.validate import sample_of

from record import SHARED, Record

BUILD = Path(__file__).resolve().parents[1] / "build" / "counterfactuals"


def half(images: Images, which: int, most: int) -> Images:
    """One half of the training images, the same test images; at most so many to learn from, where not 0."""
    train = images.train.subset(np.arange(which, len(images.train), 2))
    return dataclasses.replace(images, train=sample_of(train, most) if most else train)


def trained(images: Images, which: int, given: argparse.Namespace, seed: int) -> Path:
    """The folder of the model of one half, trained unless it is there."""
    trial = f", trial of {given.images}" if given.images else ""
    folder = (
        BUILD / f"half {which}, {given.minutes:g} minutes, dim {given.dim}, width {given.width}, seed {seed}{trial}"
    )
    if not (folder / RECIPE).exists():
        training = Training(minutes=given.minutes, seed=2 * seed + which, device=given.device)
        settings = {"dim": given.dim, "width": given.width}
        data = half(images, which, given.images)
        going_on = (folder / RUN).exists()
        job = prepare(data, preset="vae_cnn", settings=settings, training=training, out=folder, resume=going_on)
        for progress in job.run():
            if progress.row:
                print(progress.row, flush=True)
        job.finish()
    return folder


def measured(images: Images, given: argparse.Namespace, seed: int, confidence: float) -> dict[str, Any]:
    """Train both, explain with the one, ask the other."""
    folder, judge = (trained(images, which, given, seed) for which in (0, 1))
    model = apercu.load(folder, given.device)
    explain = Explain(
        model, confidence=confidence, sample=given.test, steps=given.steps, targets=given.targets, judge=str(judge)
    )
    explain.known = half(images, 0, given.images).train  # to begin the search at
    chosen = right(model, images, given.test)
    explain(chosen.subset(np.arange(min(24, len(chosen)))), folder / f"why, confidence {confidence:g}")
    return explain.evaluate(chosen) | {"accuracy": accuracy(apercu.load(judge, given.device), images)}


def right(model: Model, images: Images, count: int) -> ImageSet:
    """Test images that the model recognises: of others nobody knows what ought to change."""
    test = sample_of(images.test, 2 * count)
    answers = model.probabilities(test).argmax(1)
    return sample_of(test.subset(np.flatnonzero(answers == test.labels)), count)


def accuracy(judge: Model, images: Images) -> float:
    """Of the judge on all test images: it cannot judge better than it recognises."""
    return float((judge.probabilities(images.test).argmax(1) == images.test.labels).mean())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20.0, help="of training, for each of the two models")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--test", type=int, default=500, help="images to explain, at most")
    parser.add_argument("--confidence", default="0.9,0.99", help="that another class must reach")
    parser.add_argument("--targets", type=int, default=3)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--images", type=int, default=0, help="to learn from, for a trial; 0 for all")
    options = parser.parse_args()
    record = Record("counterfactuals", "MNIST: share of counterfactuals that a second classifier calls otherwise too")
    mnist = open_images(SHARED / "mnist")
    for number in range(options.seeds):
        for sure in map(float, options.confidence.split(",")):
            key = f"confidence {sure:g}, {options.minutes:g} minutes, dim {options.dim}, seed {number}"
            key += f", trial of {options.images}" if options.images else ""
            record.once(key, partial(measured, mnist, options, number, sure))
