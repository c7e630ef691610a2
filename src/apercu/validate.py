"""What a validation measures: prices of unseen images, accuracy where labels are known, health of the bottleneck."""

from __future__ import annotations

import dataclasses
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from apercu.bottlenecks.base import Health
from apercu.data.batches import in_order
from apercu.data.images import ImageSet
from apercu.model import Autoencoder
from apercu.types import Code

IMAGES = 2000
TOKENS = 200_000


@dataclass(frozen=True)
class Validation:
    """Means over the images; `score` is what training tries to lower."""

    prices: dict[str, float]
    accuracy: float | None
    health: Health | None
    score: float


def sample_of(images: ImageSet, count: int = IMAGES, seed: int = 0) -> ImageSet:
    """At most `count` of the images, always the same ones."""
    if len(images) <= count:
        return images
    return images.subset(np.sort(np.random.default_rng(seed).permutation(len(images))[:count]))


def concatenate(codes: list[Code]) -> Code:
    """The codes of several batches as one, for `Bottleneck.health`; tokens of maps of different sizes are pooled."""
    same = len({code.grid for code in codes}) == 1

    def join(name: str) -> Tensor | None:
        parts = [getattr(code, name) for code in codes]
        if parts[0] is None:
            return None
        return torch.cat(parts if same else [part.flatten(0, 1).unsqueeze(1) for part in parts])

    mean = join("mean")
    if mean is None:
        raise TypeError("a code always has a mean")
    return dataclasses.replace(codes[0], z=mean, mean=mean, costs={}, scale=join("scale"), symbols=join("symbols"))


@torch.no_grad()
def validate(
    model: Autoencoder,
    images: ImageSet,
    batch_size: int = 250,
    device: str = "cpu",
    precision: AbstractContextManager[object] | None = None,
) -> Validation:
    """Price the images with drawn codes, as in training, from a fixed seed; the model is left as it was."""
    was_training, sums, count = model.training, dict[str, float](), 0
    right = known = tokens = 0
    codes: list[Code] = []
    model.eval()
    with torch.random.fork_rng(), precision or nullcontext():
        torch.manual_seed(0)
        for batch in in_order(images, batch_size, device):
            # The weights that are kept are those that undo damage best; a score is of an image as it is.
            seen = batch if model.corruption is None else model.corruption.damaged(batch)
            prices, output = model.price(seen, noise=True)
            count += len(batch.y)
            for name, price in prices.items():
                sums[name] = sums.get(name, 0.0) + float(price.sum())
            if "label" in output.heads:
                labelled = batch.y >= 0
                known += int(labelled.sum())
                quiet = dataclasses.replace(output.code, z=output.code.mean)  # as an answer would be given
                right += int((model.heads["label"](quiet).argmax(1) == batch.y)[labelled].sum())
            if tokens < TOKENS:
                codes.append(dataclasses.replace(output.code, costs={}))
                tokens += output.code.mean.shape[0] * output.code.mean.shape[1]
    model.train(was_training)
    means = {name: value / max(count, 1) for name, value in sums.items()}
    accuracy = right / known if known else None
    total = sum(model.objective.terms[name].weight * value for name, value in means.items())
    health = model.bottleneck.health(concatenate(codes)) if codes else None
    return Validation(means, accuracy, health, total if accuracy is None else -accuracy)
