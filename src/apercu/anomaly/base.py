"""The contract of a score: fitted to normal images, then a number for each image and, where it has one, a map."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from apercu.api import Model, batch_size
from apercu.data.batches import in_order
from apercu.data.images import ImageSet

Arrays = dict[str, NDArray[Any]]

SHARE = 0.002


class Score(ABC):
    """Larger is odder; images are (B, C, H, W) in [0, 1], all of a batch of one size.

    `trivial`: it needs no model, and is what any other must beat; `seed`: what it draws, if it draws.
    """

    trivial: ClassVar[bool] = False

    def __init__(self, model: Model, seed: int = 0) -> None:
        self.model, self.seed = model, seed

    @classmethod
    def lacks(cls, model: Model) -> str:
        """What this model lacks to be scored so, in words; "" where nothing is missing."""
        return ""

    def fit(self, normal: ImageSet) -> None:
        """Learn what normal images are like; each is small enough to be looked at whole."""
        return

    @abstractmethod
    def score(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B,)."""

    def map(self, x: Tensor) -> Tensor | None:
        """How odd each pixel is, (B, C, H, W) → (B, H, W); None where this score does not say where."""
        return None

    def both(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """The score and the map, (B, C, H, W) → (B,), (B, H, W)."""
        return self.score(x), self.map(x)

    def arrays(self) -> Arrays:
        """What was fitted, by name."""
        return {}

    def restore(self, arrays: Arrays) -> None:
        """Take back what `arrays` gave."""
        return

    def batches(self, images: ImageSet) -> Iterator[Tensor]:
        """The images on the model's device, (B, C, H, W) each, those of one size together."""
        self.model.network.eval()
        for batch in in_order(images, batch_size(images.spec), self.model.device):
            yield batch.x


class MapScore(Score, ABC):
    """A score that is read off its map: the mean of the oddest pixels."""

    @abstractmethod
    def map(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, H, W)."""

    def score(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B,)."""
        return peak(self.map(x))

    def both(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The map is made once: (B, C, H, W) → (B,), (B, H, W)."""
        maps = self.map(x)
        return peak(maps), maps


def peak(maps: Tensor, share: float = SHARE) -> Tensor:
    """The mean of that share of the pixels which is oddest, one at least: (B, H, W) → (B,)."""
    flat = maps.flatten(1)
    return flat.topk(max(1, round(share * flat.shape[1])), 1).values.mean(1)


def some(images: ImageSet, count: int, seed: int) -> ImageSet:
    """At most so many of the images, drawn by `seed`."""
    return images.subset(np.sort(np.random.default_rng(seed).permutation(len(images))[:count]))


def as_array(values: Tensor) -> NDArray[np.float32]:
    """A tensor as an array that can be kept."""
    array: NDArray[np.float32] = values.detach().float().cpu().numpy()
    return array


def as_tensor(array: NDArray[Any], model: Model) -> Tensor:
    """An array that was kept, on the model's device."""
    return torch.from_numpy(np.ascontiguousarray(array)).to(model.device)
