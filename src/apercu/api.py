"""Fit a model, load one, and use it: images in, codes, images and prices out.

model = apercu.fit("photos", preset="vae_cnn", labels=100, out="model")
model = apercu.load("model")
codes = model.encode(images)
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from apercu import store
from apercu.checkpoint import NAME, write_atomically
from apercu.data.batches import in_order
from apercu.data.conform import Wanted, conform
from apercu.data.convert import Fit, parse_size
from apercu.data.images import ImageSet
from apercu.data.open import Images
from apercu.data.opening import Opening
from apercu.engine import choose_device
from apercu.errors import ApercuError, FormatError
from apercu.heads import pooled
from apercu.model import Autoencoder
from apercu.store import Recipe
from apercu.train import Progress, Training, train
from apercu.types import Batch, ImageSpec, Output

RUN = "run.json"
BATCH = 250


class Model:
    """A trained autoencoder with its recipe.

    Every method takes what `open_images` takes: arrays, tensors, Pillow images, paths, folders. Arrays hold the values
    that the training images were stored with (0–255 for 8-bit images).
    """

    def __init__(self, network: Autoencoder, recipe: Recipe, folder: Path | None = None, device: str = "auto") -> None:
        self.network, self.recipe, self.folder = network.eval(), recipe, folder
        self.device = choose_device(device)
        network.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes that it was trained with."""
        return tuple(self.recipe.classes)

    def images(
        self,
        images: object,
        split: str = "all",
        *,
        size: str | int | tuple[int, int] | None = None,
        fit: Fit | None = None,
        channels: int | None = None,
    ) -> ImageSet:
        """Open `images` as this model sees them: treated as its training images were, unless told otherwise.

        Raises:
            ApercuError: they cannot be read, or their channels or size are not the model's; with advice.
        """
        usual = self.recipe.data.get("request", {})
        wanted = Wanted(
            self.recipe.image,
            self.network.fixed_size,
            size or usual.get("size"),
            fit or usual.get("fit", "error"),
            channels or usual.get("channels"),
        )
        return conform(images, wanted, split)

    def outputs(self, images: ImageSet, decode: bool = True) -> Iterator[tuple[Batch, Output]]:
        """Run the model over the images batch by batch, without noise and without gradients."""
        self.network.eval()
        with torch.no_grad():
            for batch in in_order(images, BATCH, self.device):
                yield batch, self.network(batch, noise=False, decode=decode)

    def encode(self, images: object) -> NDArray[np.float32]:
        """The code of every image, (B, N, D); a vector code has N = 1. The images share one size."""
        return self._gather(images, lambda output: output.code.mean)

    def features(self, images: object) -> NDArray[np.float32]:
        """One vector per image whatever its size, (B, K): the code, averaged over at most 4×4 cells."""
        return self._gather(images, lambda output: pooled(output.code))

    def probabilities(self, images: object) -> NDArray[np.float32]:
        """What the joint label head says, (B, classes).

        Raises:
            ApercuError: the model was trained without one.
        """
        if "label" not in self.network.heads:
            raise ApercuError(
                f"preset {self.recipe.preset} has no label head; use the task classify, which fits a probe"
            )
        return self._gather(images, lambda output: output.heads["label"].softmax(1))

    def reconstruct(self, images: object) -> NDArray[Any]:
        """Decode the code of every image, (B, C, H, W) in the stored values of the training images."""
        return self.stored(self._gather(images, lambda output: output.pixels.mean, decode=True))

    def decode(self, codes: NDArray[Any] | torch.Tensor, size: tuple[int, int] | None = None) -> NDArray[Any]:
        """Images of codes (B, N, D), (B, C, H, W) in the stored values of the training images.

        `size` (height, width) is needed for maps of symbols where it is not the size in the recipe.
        """
        z = torch.as_tensor(np.asarray(codes), dtype=torch.float32)
        height, width = size or (self.recipe.image.height, self.recipe.image.width)
        grid = self.network.grid((height, width))
        expected = (grid[0] * grid[1], self.network.bottleneck.dim)
        if z.ndim != 3 or tuple(z.shape[1:]) != expected:
            raise ApercuError(f"codes of this model have shape (B, {expected[0]}, {expected[1]}), not {tuple(z.shape)}")
        with torch.no_grad():
            parts = [
                self.network.decode(part.to(self.device), grid, (height, width)).mean.cpu()
                for part in torch.split(z, BATCH)
            ]
        return self.stored(torch.cat(parts).numpy())

    def price(self, images: object, noise: bool = False, seed: int = 0) -> dict[str, NDArray[np.float32]]:
        """Every term of the objective for every image, (B,) in nats, and "total", which leaves out the label.

        The price of an image is that of its code's mean, whatever stands beside it; with `noise` the code is drawn from
        `seed`, and the mean over images is the negative ELBO of a variational model.
        """
        rows: dict[str, list[torch.Tensor]] = {}
        objective = self.network.objective
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(seed)
            for batch in in_order(self.images(images), BATCH, self.device):
                prices, _ = self.network.price(batch, noise)
                for name, price in (prices | {"total": objective.unlabelled(prices)}).items():
                    rows.setdefault(name, []).append(price.cpu())
        return {name: torch.cat(parts).numpy() for name, parts in rows.items()}

    def stored(self, pixels: NDArray[np.float32]) -> NDArray[Any]:
        """[0, 1] → the values and type that the training images were stored with."""
        spec = self.recipe.image
        values = pixels if spec.maximum == 1 else np.rint(np.clip(pixels, 0, 1) * spec.maximum)
        stored: NDArray[Any] = values.astype(spec.dtype)
        return stored

    def save(self, folder: str | Path) -> Path:
        """Write the model as a folder and return its path."""
        self.folder = Path(folder)
        store.save(self.network, self.recipe, self.folder)
        return self.folder

    def _gather(self, images: object, read: Callable[[Any], torch.Tensor], decode: bool = False) -> NDArray[np.float32]:
        opened = self.images(images)
        if len(opened) == 0:
            raise ApercuError("there are no images here")
        rows = [(batch.index, read(output)) for batch, output in self.outputs(opened, decode)]
        shapes = {tuple(row.shape[1:]) for _, row in rows}
        if len(shapes) > 1:
            raise ApercuError("the images differ in size, so their codes do; pass the images of one size at a time")
        order = torch.cat([index for index, _ in rows]).argsort()
        values = torch.cat([row for _, row in rows])[order]
        return values.float().cpu().contiguous().numpy()


def load(folder: str | Path, device: str = "auto") -> Model:
    """Open a model folder.

    Raises:
        FormatError: a folder that is damaged, foreign, or from a newer version.
    """
    network, recipe = store.load(Path(folder))
    return Model(network, recipe, Path(folder), device)


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
        """Train, step by step; the recipe keeps the last validation."""
        if self.out is not None:
            self.out.mkdir(parents=True, exist_ok=True)
            write_atomically(self.out / RUN, json.dumps(dataclasses.asdict(self.recipe)).encode())
        for progress in train(self.network, self.data.train, self.data.val, self.training, self.out, self.resume):
            self.recipe.metrics = {"history": progress.history[-1:], "warnings": progress.warnings}
            yield progress

    def finish(self) -> Model:
        """Write the trained model, drop the checkpoint that is no longer needed, and return the model."""
        model = Model(self.network, self.recipe, self.out, self.training.device)
        if self.out is not None:
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
    """Open the images, hide labels, and build the model; `resume` takes all else from the run that was stopped in `out`.

    Raises:
        ApercuError: images, labels, preset or settings that do not fit; or a folder that holds a model or a run.
    """
    folder = Path(out) if out is not None else None
    if resume:
        recipe = _stopped(folder)
        opening = Opening(**recipe.data["request"])
    else:
        _make_way(folder, overwrite)
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
        images: a folder, CSV, archive, array, tensor, … (see `open_images`).
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


def _make_way(folder: Path | None, overwrite: bool) -> None:
    """Refuse a folder that holds a model or a stopped run, unless it may be overwritten."""
    if folder is None:
        return
    if not overwrite and (folder / store.RECIPE).exists():
        raise ApercuError(f"{folder} already holds a model; choose another folder, or allow it with --overwrite")
    if not overwrite and (folder / RUN).exists():
        raise ApercuError(f"a run was stopped in {folder}; go on with --resume, or start again with --overwrite")
    for name in (NAME, RUN, store.RECIPE):
        (folder / name).unlink(missing_ok=True)


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
