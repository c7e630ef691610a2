"""Fit a model: open the images, build the network, train, and keep the folder.

model = apercu.fit("photos", preset="vae_cnn", labels=100, out="model")
"""

from __future__ import annotations

import dataclasses
import json
import platform
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from apercu import store
from apercu.api import Model
from apercu.checkpoint import NAME, write_atomically
from apercu.data.convert import Fit, parse_size
from apercu.data.images import fingerprint
from apercu.data.labels import check_labelled
from apercu.data.open import Images
from apercu.data.opening import Opening
from apercu.data.tiles import cut
from apercu.engine import choose_device, choose_precision, first_process
from apercu.errors import ApercuError, FormatError
from apercu.model import Autoencoder
from apercu.presets import check, defaults
from apercu.store import Recipe
from apercu.tracking import Progress
from apercu.train import train
from apercu.training import Training
from apercu.transfer import begin, inherit, stand_on
from apercu.types import ImageSpec

RUN = "run.json"


@dataclass
class Job:
    """A run that is ready to train: its images are open and its model is built.

    `seen`: the images as what is trained sees them: those of `data`, their tiles, or what a frozen encoder makes of
    them.
    """

    data: Images
    seen: Images
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
        network = self.network if self.seen is self.data else self.network.above
        for progress in train(network, self.seen.train, self.seen.val, self.training, self.out, self.resume):
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
    start: str | Path | None = None,
    out: str | Path | None = None,
    settings: dict[str, Any] | None = None,
    training: Training | None = None,
    size: str | int | tuple[int, int] | None = None,
    fit: Fit = "error",
    channels: int | None = None,
    strict: bool = False,
    normal: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Job:
    """Open the images, hide labels, and build the model; `resume` takes all else from the run stopped in `out`.

    `normal`: the class that alone is learnt from, "" for that called good, normal or ok; None for all.

    Raises:
        ApercuError: images, labels, preset or settings that do not fit; or a folder that holds a model or a run.
    """
    folder = Path(out) if out is not None else None
    if resume:
        recipe = _stopped(folder)
    else:
        if folder is not None and not overwrite:
            _refuse_to_overwrite(folder)
        edges = None if size is None else "x".join(map(str, parse_size(size) or ()))
        opening = Opening(None if labels is None else str(labels), edges, fit, channels, strict, normal)
        training = training or Training()
        recipe = Recipe(preset or "", dict(settings or {}), ImageSpec(0, 0, 0), seed=training.seed)
        recipe.training, recipe.data["request"] = dataclasses.asdict(training), dataclasses.asdict(opening)
        if start is not None:
            inherit(recipe, Path(start))
    if recipe.preset:
        check(recipe.preset, recipe.settings)
    training = Training(**recipe.training)
    device = choose_device(training.device)
    data = Opening(**recipe.data["request"]).open(images, training.seed, progress)
    found = _summary(data)
    if resume and found["fingerprint"] != recipe.data["fingerprint"]:
        raise ApercuError(f"these are not the images that the run in {folder} was started with; name the same images")
    recipe.data = found | recipe.data
    recipe.preset = recipe.preset or ("vae_cnn" if len(data.train.classes) > 1 else "vae")
    # With the defaults of today, so that those of a later version do not change this model.
    recipe.settings = defaults(recipe.preset) | recipe.settings
    recipe.image, recipe.classes = data.train.spec, list(data.train.classes)
    recipe.versions = {name: version(name) for name in ("apercu", "torch", "numpy")}
    recipe.versions["python"] = platform.python_version()
    with torch.random.fork_rng():
        torch.manual_seed(training.seed)
        network = recipe.build()
    choose_precision(training.precision, device, network)
    if training.crop is not None:
        _check_crops(network, recipe.preset, training.crop)
    if "label" in network.heads:
        check_labelled(data)
    going_on = resume and folder is not None and (folder / NAME).is_file()
    if not going_on or network.backbone is not None:  # else the checkpoint holds every weight
        notes = begin(network, recipe, data.train)
        recipe.data["notes"] += [note for note in notes if note not in recipe.data["notes"]]
    seen = data if network.backbone is None else stand_on(network.backbone, data, device, progress)
    seen, notes = _in_tiles(seen, recipe.settings.get("tile", 0) if training.crop is None else 0)
    recipe.data["notes"] += [note for note in notes if note not in recipe.data["notes"]]
    return Job(data, seen, network, recipe, training, folder, going_on)


def fit(
    images: object,
    *,
    preset: str | None = None,
    labels: int | str | Path | None = None,
    start: str | Path | None = None,
    out: str | Path | None = None,
    settings: dict[str, Any] | None = None,
    training: Training | None = None,
    size: str | int | tuple[int, int] | None = None,
    fit: Fit = "error",
    channels: int | None = None,
    normal: str | None = None,
    overwrite: bool = False,
) -> Model:
    """Train a model on a person's own images and return it; with `out`, it is also written there.

    Args:
        images: a folder, CSV, .npz, array, tensor, … (see `open_images`).
        preset: a name that `apercu presets` lists; None takes vae_cnn, or vae where there are no classes.
        labels: how many labels to keep (balanced over classes, the others are hidden), or a CSV that names them.
        start: the folder of a trained model to start from: its weights, and preset and settings where none are given.
        out: the model's folder.
        settings: arguments of the preset, such as {"dim": 64}.
        training: how to train.
        size: (height, width) or "HEIGHTxWIDTH", for images that differ in size; `fit` says how they get it.
        channels: 1 for grey, 3 for colour.
        normal: the class that alone is learnt from, "" for that called good, normal or ok; None for all.
        overwrite: whether `out` may already hold a model.

    Raises:
        ApercuError: images, labels, preset or settings that do not fit; or a folder that holds a model or a run.
        TrainingError: a price that is not finite.
    """
    job = prepare(
        images,
        preset=preset,
        labels=labels,
        start=start,
        out=out,
        settings=settings,
        training=training,
        size=size,
        fit=fit,
        channels=channels,
        normal=normal,
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
    for pattern in (NAME, RUN, store.RECIPE, store.WEIGHTS, "history.csv", "classify.*", "anomaly.*", "report.html"):
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
        content = store.upgraded(json.loads(path.read_bytes()))
        return Recipe(**(content | {"image": ImageSpec(**content["image"])}))
    except (ValueError, KeyError, TypeError) as error:
        raise FormatError(f"{path} is damaged ({error}); start the run again with --overwrite") from error


def _check_crops(network: Autoencoder, preset: str, side: int) -> None:
    """Refuse crops that this network cannot learn from."""
    if network.fixed_size or network.backbone is not None:
        raise ApercuError(
            f"preset {preset} sees every image as a whole, so it cannot learn from crops; leave out --crop, "
            "or choose a preset that takes any size: codec, vqvae, mae or dae"
        )
    if side < network.encoder.stride:
        raise ApercuError(
            f"a crop of {side} pixels is smaller than the {network.encoder.stride} that a token of this model covers; "
            "give a larger --crop, better many times so large"
        )


def _in_tiles(images: Images, side: int) -> tuple[Images, list[str]]:
    """The images to learn from in tiles of `side` pixels, where they are larger and it is not 0; and in words."""
    if not side or max(images.train.spec.shape[1:]) <= side:
        return images, []
    train, val = (cut(part, (side, side)).images for part in (images.train, images.val))
    words = f"larger images than {side} pixels a side are learnt from in tiles: {len(train)} of {len(images.train)}"
    return dataclasses.replace(images, train=train, val=val), [words]


def _summary(data: Images) -> dict[str, Any]:
    """What the recipe remembers of the images: counts, notes, and a fingerprint of pixels and labels."""
    return {
        "origin": str(data.origin),
        "train": len(data.train),
        "labelled": int((data.train.labels >= 0).sum()),
        "val": len(data.val),
        "test": len(data.test),
        "skipped": [str(problem) for problem in data.problems],
        "notes": list(data.notes),
        "fingerprint": fingerprint([data.train, data.val]),
    }
