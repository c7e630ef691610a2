"""Start from what was learnt elsewhere: the weights of another model, or the features of a pretrained encoder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from apercu import store
from apercu.api import batch_size
from apercu.data.batches import in_order
from apercu.data.conform import Wanted, conform
from apercu.data.images import ImageSet
from apercu.data.open import Images
from apercu.data.pixels import Stack
from apercu.encoders.pretrained import Pretrained
from apercu.errors import ApercuError
from apercu.model import Autoencoder
from apercu.store import Recipe
from apercu.validate import sample_of

GENTLE = 2e-4


def inherit(recipe: Recipe, folder: Path) -> None:
    """Fill what `recipe` leaves open from that of the model in `folder`, and remember where its weights are.

    Raises:
        FormatError: the model is damaged, foreign, or from a newer version.
    """
    theirs = store.load_recipe(folder)
    recipe.preset = recipe.preset or theirs.preset
    if recipe.preset == theirs.preset:
        recipe.settings = theirs.settings | recipe.settings
    request, usual = recipe.data["request"], theirs.data.get("request", {})
    for name, nothing in (("size", None), ("fit", "error"), ("channels", None)):
        if request[name] == nothing:
            request[name] = usual.get(name, nothing)
    recipe.data["start"] = {"model": str(folder.resolve()), "weights": theirs.files.get(store.WEIGHTS)}


def begin(network: Autoencoder, recipe: Recipe, images: ImageSet) -> list[str]:
    """Give an untrained network the weights that its recipe starts from, and say in words what is new all the same.

    Raises:
        ApercuError: the other model was changed since, learnt from another kind of images, or does not fit; or the
            weights of a pretrained encoder cannot be reached.
    """
    start, backbone = recipe.data.get("start"), network.backbone
    theirs = None if start is None else _open(start, images)
    notes = []
    if backbone is not None:
        recipe.settings["encoder"] = backbone.description
        recipe.versions["transformers"] = version("transformers")
        held = theirs[0].backbone if theirs is not None else None
        if held is None or held.description != backbone.description:
            backbone.fetch()
        if not backbone.frozen and recipe.training["learning_rate"] > GENTLE:
            notes.append(
                f"a learning rate above {GENTLE:g} may undo what the pretrained encoder knows; try --learning-rate 1e-4"
            )
    if theirs is not None:
        news = _copy(*theirs, network, recipe.classes)
        notes.append(f"started from {recipe.data['start']['model']}{news}")
    return notes


def _open(start: dict[str, str], images: ImageSet) -> tuple[Autoencoder, Recipe]:
    folder = Path(start["model"])
    network, recipe = store.load(folder)
    if recipe.files[store.WEIGHTS] != start["weights"]:
        raise ApercuError(f"{folder}, which this run started from, was changed since; start again with --overwrite")
    conform(images, Wanted(recipe.image, network.fixed_size))
    return network, recipe


def _copy(theirs: Autoencoder, recipe: Recipe, network: Autoencoder, classes: list[str]) -> str:
    """Copy the weights whose name and shape agree, and say in words which parts of `network` are new."""
    weights, ours = theirs.state_dict(), network.state_dict()
    same_classes = classes == recipe.classes
    fitting = {
        name: tensor
        for name, tensor in weights.items()
        if name in ours and ours[name].shape == tensor.shape and (same_classes or _part(name) != "label head")
    }
    if not any(_part(name) == "encoder" for name in fitting):
        raise ApercuError(
            f"the encoder of this {recipe.preset} does not fit the new model; "
            "leave out --preset and the settings of the network, to take its own"
        )
    network.load_state_dict(fitting, strict=False)
    words = ""
    for part in dict.fromkeys(map(_part, ours)):
        names = [name for name in ours if _part(name) == part]
        taken = sum(name in fitting for name in names)
        if taken < len(names):
            words += f"; the {part} is {'partly ' if taken else ''}new"
            words += ", as the classes differ" if part == "label head" and not same_classes else ""
    return words


def _part(name: str) -> str:
    first = name.partition(".")[0]
    return "label head" if first == "heads" else first


def stand_on(
    backbone: Pretrained, images: Images, device: str, progress: Callable[[int, int], None] | None = None
) -> Images:
    """The training and validation images as a frozen backbone sees them, each looked at once; m and s are measured.

    Where it is not frozen, the images themselves.
    """
    if not backbone.frozen:
        backbone.settle(_features(backbone, [sample_of(images.train)], device, progress)[0])
        return images
    train, val = _features(backbone, [images.train, images.val], device, progress)
    backbone.settle(train)
    return replace(images, train=_as_images(images.train, backbone, train), val=_as_images(images.val, backbone, val))


def _as_images(images: ImageSet, backbone: Pretrained, raw: Tensor) -> ImageSet:
    """The same images with their standardised features, (n, F), in place of pixels."""
    pixels = backbone.standard(raw).numpy()[:, :, None, None]
    sizes, rows = np.ones((len(images), 2), np.int64), np.arange(len(images))
    return replace(images, spec=backbone.image, sizes=sizes, pixels=Stack(pixels), rows=rows, original=None)


def _features(
    backbone: Pretrained, parts: list[ImageSet], device: str, progress: Callable[[int, int], None] | None
) -> list[Tensor]:
    """The raw features of the images of every part, (n, F) each."""
    found = [torch.zeros(len(part), backbone.features) for part in parts]
    done, total = 0, sum(map(len, parts))
    backbone.to(device).eval()
    with torch.no_grad():
        for part, features in zip(parts, found, strict=True):
            for batch in in_order(part, batch_size(part.spec), device):
                features[batch.index.cpu()] = backbone.raw(batch.x).cpu()
                done += len(batch.y)
                if progress is not None:
                    progress(done, total)
    backbone.cpu()
    return found
