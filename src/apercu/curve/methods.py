"""What a curve compares: ways to recognise images of which a few are labelled, the cheap ones first."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apercu import store
from apercu.api import Model, load
from apercu.baselines import cnn_on_labels, labelled, pca_svm, pixels_svm
from apercu.data.batches import Batches
from apercu.data.images import ImageSet
from apercu.data.open import Images
from apercu.data.sources.base import unknown
from apercu.fitting import prepare
from apercu.presets import build, defaults
from apercu.study import Drive
from apercu.tasks.classify import Classify
from apercu.training import Training, passes

JOINT, CODE = "vae_cnn", "vae"
MOST_STEPS = 2000  # on labelled images alone, where every step sees the same few again
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Bench:
    """What all methods share: the settings of `vae_cnn`, how to train, and where the codes without labels are kept.

    `made`: the model that made the codes, where these stand in place of the images.
    """

    settings: dict[str, Any]
    training: Training
    codes: Path
    drive: Drive
    made: Model | None = None

    def joint(self, few: Images, seed: int) -> Model:
        """`vae_cnn` trained on all images and these labels."""
        return self._fit(few, JOINT, self.settings, seed, None)

    def code(self, few: Images, seed: int) -> Model:
        """The model whose codes these are; else the same network as `joint` without labels, once for each seed."""
        if self.made is not None:
            return self.made
        folder = self.codes / f"seed-{seed}"
        if not (folder / store.RECIPE).is_file():
            hidden = {name: few.split(name).with_labels(unknown(len(few.split(name)))) for name in ("train", "val")}
            shared = {name: value for name, value in self.settings.items() if name in defaults(CODE)}
            self._fit(dataclasses.replace(few, train=hidden["train"], val=hidden["val"]), CODE, shared, seed, folder)
        model = load(folder, self.training.device)
        model.folder = None  # what is fitted to it is not to be kept
        return model

    def steps(self, few: ImageSet) -> int:
        """How long to train on labels alone: as long as the joint model, where that is not very long."""
        if self.training.minutes is not None:
            return MOST_STEPS
        each = len(Batches(few, min(self.training.batch, len(few)), 0, self.training.labelled_share))
        return min(MOST_STEPS, passes(self.training, each) * each)

    def _fit(self, few: Images, preset: str, settings: dict[str, Any], seed: int, out: Path | None) -> Model:
        training = dataclasses.replace(self.training, seed=seed)
        job = prepare(few, preset=preset, settings=settings, training=training, out=out, overwrite=True)
        self.drive(job.run())
        return job.finish()


@dataclass(frozen=True)
class Method:
    """`answer(bench, images, seed)` learns from the training images and names the class of every test image.

    `pixels`: whether it needs the images themselves, and not only their codes.
    """

    name: str
    ours: bool
    answer: Callable[[Bench, Images, int], Labels]
    pixels: bool = True


def _pixels(bench: Bench, few: Images, seed: int) -> Labels:
    return pixels_svm(few.train, few.test, seed)


def _pca(bench: Bench, few: Images, seed: int) -> Labels:
    return pca_svm(few.train, few.test, seed)


def _cnn(bench: Bench, few: Images, seed: int) -> Labels:
    steps, device = bench.steps(few.train), bench.training.device
    return cnn_on_labels(few.train, few.test, seed, steps, bench.settings, device, bench.drive)


def _probe(bench: Bench, few: Images, seed: int) -> Labels:
    return _learnt(Classify(bench.code(few, seed), method="best", seed=seed), few)


def _finetune(bench: Bench, few: Images, seed: int) -> Labels:
    model = bench.code(few, seed)
    # The joint model sees its images in many views, and so must this one.
    model.network.views = build(JOINT, few.train.spec, len(few.train.classes), bench.settings).views
    epochs = math.ceil(bench.steps(few.train) / math.ceil(len(labelled(few.train)) / 64))
    return _learnt(Classify(model, method="finetune", epochs=epochs, seed=seed), few)


def _joint(bench: Bench, few: Images, seed: int) -> Labels:
    return np.asarray(Classify(bench.joint(few, seed), method="head").probabilities(few.test).argmax(1))


def _learnt(classify: Classify, few: Images) -> Labels:
    classify.fit(labelled(few.train))
    return np.asarray(classify.probabilities(few.test).argmax(1))


METHODS = {
    "pixels": Method("pixels + SVM", False, _pixels),
    "pca": Method("PCA + SVM", False, _pca),
    "cnn": Method("the same CNN, labels alone", False, _cnn),
    "probe": Method("probe on the code", True, _probe, pixels=False),
    "finetune": Method("code fine-tuned", True, _finetune),
    "joint": Method("joint (Apercu)", True, _joint),
}
