"""Fit a model: open the images, build the network, train, and keep the folder.

model = apercu.fit("photos", preset="vae_cnn", labels=100, out="model")
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import platform
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from apercu import store
from apercu.api import Model
from apercu.checkpoint import NAME, write_atomically
from apercu.data.convert import Fit, parse_size
from apercu.data.open import Images
from apercu.data.opening import Opening
from apercu.engine import first_process
from apercu.errors import ApercuError, FormatError
from apercu.model import Autoencoder
from apercu.presets import defaults
from apercu.store import Recipe
from apercu.train import Progress, train
from apercu.training import Training
from apercu.types import ImageSpec

RUN = "run.json"


@dataclass
class Job:
    """A run that is ready to train: its images are open and its model is built."""

    data: Images
    network: Autoencoder
    recipe: Recipe
    training: Training
    out: Path | None
    resume: bool = False

    def run(self) -> Iterator[Progress]:
        """Train, step by step; the recipe keeps what was measured of the weights that are kept."""
        if self.out is not None and first_process():
            if not self.resume:
                _clear(self.out)
            self.out.mkdir(parents=True, exist_ok=True)
            write_atomically(self.out / RUN, json.dumps(dataclasses.asdict(self.recipe)).encode())
        for progress in train(self.network, self.data.train, self.data.val, self.training, self.out, self.resume):
            self.recipe.metrics = {"validation": progress.kept, "warnings": progress.warnings}
            yield progress

    def finish(self) -> Model:
        """Write the trained model, drop the checkpoint that is no longer needed, and return the model."""
        model = Model(self.network, self.recipe, self.out, self.training.device)
        if self.out is not None and first_process():
            model.save(self.out)
            for name in (NAME, RUN):
                (self.out / name).unlink(missing_ok=True)
        return model


def prepare(
    images: object,
    *,
    preset: str | None = None,
    labels: int | str | Path | None = None,
    out: str | Path | None = None,
    settings: dict[str, Any] | None = None,
    training: Training | None = None,
    size: str | int | tuple[int, int] | None = None,
    fit: Fit = "error",
    channels: int | None = None,
    strict: bool = False,
    resume: bool = False,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Job:
    """Open the images, hide labels, and build the model; `resume` takes all else from the run stopped in `out`.

    Raises:
        ApercuError: images, labels, preset or settings that do not fit; or a folder that holds a model or a run.
    """
    folder = Path(out) if out is not None else None
    if resume:
        recipe = _stopped(folder)
        opening = Opening(**recipe.data["request"])
    else:
        if folder is not None and not overwrite:
            _refuse_to_overwrite(folder)
        edges = None if size is None else "x".join(map(str, parse_size(size) or ()))
        opening = Opening(None if labels is None else str(labels), edges, fit, channels, strict)
        training = training or Training()
        recipe = Recipe(preset or "", dict(settings or {}), ImageSpec(0, 0, 0), seed=training.seed)
        recipe.training = dataclasses.asdict(training)
    training = Training(**recipe.training)
    data = opening.open(images, training.seed, progress)
    summary = _summary(data) | {"request": dataclasses.asdict(opening)}
    if resume and summary["fingerprint"] != recipe.data["fingerprint"]:
        raise ApercuError(f"these are not the images that the run in {folder} was started with; name the same images")
    known = len(np.unique(data.train.labels[data.train.labels >= 0]))
    recipe.preset = recipe.preset or ("vae_cnn" if known > 1 else "vae")
    # With the defaults of today, so that those of a later version do not change this model.
    recipe.settings = defaults(recipe.preset) | recipe.settings
    recipe.image, recipe.classes, recipe.data = data.train.spec, list(data.train.classes), summary
    recipe.versions = {name: version(name) for name in ("apercu", "torch", "numpy")}
    recipe.versions["python"] = platform.python_version()
    with torch.random.fork_rng():
        torch.manual_seed(training.seed)
        network = recipe.build()
    going_on = resume and folder is not None and (folder / NAME).is_file()
    return Job(data, network, recipe, training, folder, going_on)


def fit(
    images: object,
    *,
    preset: str | None = None,
    labels: int | str | Path | None = None,
    out: str | Path | None = None,
    settings: dict[str, Any] | None = None,
    training: Training | None = None,
    size: str | int | tuple[int, int] | None = None,
    fit: Fit = "error",
    channels: int | None = None,
    overwrite: bool = False,
) -> Model:
    """Train a model on a person's own images and return it; with `out`, it is also written there.

    Args:
        images: a folder, CSV, .npz, array, tensor, … (see `open_images`).
        preset: "ae", "cae", "vae", "vae_cnn" or "vqvae"; None takes vae_cnn, or vae where there are no classes.
        labels: how many labels to keep (balanced over classes, the others are hidden), or a CSV that names them.
        out: the model's folder.
        settings: arguments of the preset, such as {"dim": 64}.
        training: how to train.
        size: (height, width) or "HEIGHTxWIDTH", for images that differ in size; `fit` says how they get it.
        channels: 1 for grey, 3 for colour.
        overwrite: whether `out` may already hold a model.

    Raises:
        ApercuError: images, labels, preset or settings that do not fit; or a folder that holds a model or a run.
        TrainingError: a price that is not finite.
    """
    job = prepare(
        images,
        preset=preset,
        labels=labels,
        out=out,
        settings=settings,
        training=training,
        size=size,
        fit=fit,
        channels=channels,
        overwrite=overwrite,
    )
    for _ in job.run():
        pass
    return job.finish()


def _refuse_to_overwrite(folder: Path) -> None:
    if (folder / store.RECIPE).exists():
        raise ApercuError(f"{folder} already holds a model; choose another folder, or allow it with --overwrite")
    if (folder / RUN).exists():
        raise ApercuError(f"a run was stopped in {folder}; go on with --resume, or start again with --overwrite")


def _clear(folder: Path) -> None:
    """Take away what an earlier model or run left in the folder, and nothing else."""
    for pattern in (NAME, RUN, store.RECIPE, store.WEIGHTS, "history.csv", "classify.*", "report.html"):
        for path in folder.glob(pattern):
            path.unlink()
    shutil.rmtree(folder / "tensorboard", ignore_errors=True)


def _stopped(folder: Path | None) -> Recipe:
    """The recipe of the run that was stopped in `folder`."""
    if folder is None:
        raise ApercuError("only a run with a folder can be resumed; name it with -o")
    path = folder / RUN
    if not path.is_file():
        state = "is finished" if (folder / store.RECIPE).is_file() else "was never started"
        raise ApercuError(f"there is nothing to resume: the run in {folder} {state}")
    try:
        content = json.loads(path.read_bytes())
        return Recipe(**(content | {"image": ImageSpec(**content["image"])}))
    except (ValueError, KeyError, TypeError) as error:
        raise FormatError(f"{path} is damaged ({error}); start the run again with --overwrite") from error


def _summary(data: Images) -> dict[str, Any]:
    """What the recipe remembers of the images: counts, notes, and a fingerprint of pixels and labels."""
    digest = hashlib.sha256()
    for part in (data.train, data.val):
        digest.update(np.ascontiguousarray(part.hashes).tobytes())
        digest.update(part.labels.tobytes())
    return {
        "origin": str(data.origin),
        "train": len(data.train),
        "labelled": int((data.train.labels >= 0).sum()),
        "val": len(data.val),
        "test": len(data.test),
        "skipped": [str(problem) for problem in data.problems],
        "notes": list(data.notes),
        "fingerprint": digest.hexdigest(),
    }
