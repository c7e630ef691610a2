"""Batches: stored pixels become float tensors here, and nowhere earlier.

The order of an epoch depends on the seed and the epoch alone, so that a resumed run sees what it would have seen. When
only some images are labelled every batch holds the same share of them: weighting the label term by a share that
changes from batch to batch would only add noise.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from apercu.data.crops import centred, drawn
from apercu.data.images import ImageSet
from apercu.data.pixels import Stack
from apercu.types import Batch

Order = list[np.ndarray]


def to_batch(images: ImageSet, index: np.ndarray, device: torch.device | str = "cpu") -> Batch:
    """Read the images at `index` (B,) as float32 in [0, 1], channels-last."""
    pixels = torch.from_numpy(np.ascontiguousarray(images.read(index)))
    x = pixels.to(device).to(torch.float32, memory_format=torch.channels_last).div_(images.spec.maximum)
    y = torch.from_numpy(images.labels[index].astype(np.int64)).to(device)
    return Batch(x, y, torch.from_numpy(index).to(device))


def in_order(images: ImageSet, size: int, device: torch.device | str = "cpu") -> Iterator[Batch]:
    """Every image once, in order; images of different sizes come in batches of one size each."""
    return _read_ahead(images, _by_size(images, np.arange(len(images)), size), device)


def unread(images: ImageSet, size: int, device: torch.device | str = "cpu") -> Iterator[Batch]:
    """The batches of `in_order` without reading a pixel: x has its shape, and is not a number."""
    for index in _by_size(images, np.arange(len(images)), size):
        height, width = images.sizes[index[0]].tolist()
        x = torch.full((), torch.nan, device=device).expand(len(index), images.spec.channels, height, width)
        yield Batch(x, torch.from_numpy(images.labels[index]).to(device), torch.from_numpy(index).to(device))


class Batches:
    """The training batches of an image set.

    `size`: images in a batch; `labelled_share`: their share that is labelled, where only some images are; `balance`:
    whether the labelled ones show every class equally often; `rank` and `processes`: this process's part of each batch;
    `crop`: show of each image a part of so many pixels a side, another one in every epoch.
    """

    def __init__(
        self,
        images: ImageSet,
        size: int,
        seed: int,
        labelled_share: float = 0.25,
        balance: bool = False,
        rank: int = 0,
        processes: int = 1,
        crop: int | None = None,
    ) -> None:
        self.whole, self.images, self.crop = images, centred(images, crop), crop
        self.size, self.seed = size, seed
        self.balance, self.rank, self.processes = balance, rank, processes
        labelled = images.labels >= 0
        # Where more are labelled than the share asks for, a plain shuffle already has them.
        self.mixed = bool(0 < labelled.mean() < labelled_share) and size > 1 and self.images.spec.uniform
        self.labelled, self.unlabelled = np.flatnonzero(labelled), np.flatnonzero(~labelled)
        self.from_labelled = min(max(1, round(labelled_share * size)), size - 1) if self.mixed else 0

    def __len__(self) -> int:
        """Batches in an epoch."""
        return len(self._order(0))

    def epoch(self, epoch: int, start: int = 0, device: torch.device | str = "cpu") -> Iterator[Batch]:
        """The batches of this epoch from number `start` on, read ahead by one."""
        order = [index[self.rank :: self.processes] for index in self._order(epoch)[start:]]
        images = self.images
        if self.crop is not None:
            images = drawn(self.whole, self.crop, np.random.default_rng((self.seed, epoch, self.crop)))
        return _read_ahead(images, order, device)

    def _order(self, epoch: int) -> Order:
        rng = np.random.default_rng((self.seed, epoch))
        if not self.mixed:
            order = _by_size(self.images, self._everything(rng), self.size)
            rng.shuffle(order)
            # A last batch much smaller than the others would only add noise; epochs differ in whom they leave out.
            full = [index for index in order if len(index) > self.size // 2 or not self.images.spec.uniform]
            return full or order
        rest = self.size - self.from_labelled
        unlabelled = rng.permutation(self.unlabelled)
        count = max(1, round(len(unlabelled) / rest))
        labelled = self._labelled(rng, count * self.from_labelled)
        parts = np.array_split(unlabelled, count)
        return [
            np.concatenate([labelled[i * self.from_labelled : (i + 1) * self.from_labelled], part])
            for i, part in enumerate(parts)
        ]

    def _everything(self, rng: np.random.Generator) -> np.ndarray:
        """Every image once; with `balance`, as many labelled ones as there are, evenly over the classes."""
        if not self.balance or not len(self.labelled):
            return rng.permutation(len(self.images))
        return rng.permutation(np.concatenate([self._labelled(rng, len(self.labelled)), self.unlabelled]))

    def _labelled(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """`count` labelled images, each as often as the others, or each class as often as the others."""
        if not self.balance:
            return _cycled(rng, self.labelled, count)
        labels = self.images.labels[self.labelled]
        classes = rng.permutation(np.unique(labels))
        each = [_cycled(rng, self.labelled[labels == c], -(-count // len(classes))) for c in classes]
        return np.stack(each, 1).reshape(-1)[:count]


def _cycled(rng: np.random.Generator, members: np.ndarray, count: int) -> np.ndarray:
    """`count` of the members: all of them in a random order, then all in another, and so on."""
    rounds = [rng.permutation(members) for _ in range(-(-count // len(members)))]
    return np.concatenate(rounds)[:count]


def _by_size(images: ImageSet, index: np.ndarray, size: int) -> Order:
    """Cut `index` into batches of at most `size` images that share height and width, keeping its order."""
    if images.spec.uniform:
        return [index[i : i + size] for i in range(0, len(index), size)]
    sizes = images.sizes[index]
    _, group = np.unique(sizes, axis=0, return_inverse=True)
    group = group.reshape(-1)
    batches: Order = []
    for g in range(group.max() + 1 if len(group) else 0):
        members = index[group == g]
        batches += [members[i : i + size] for i in range(0, len(members), size)]
    return batches


def _read_ahead(images: ImageSet, order: Order, device: torch.device | str) -> Iterator[Batch]:
    """Read the next batch in a thread while the caller works on this one, unless reading costs nothing."""
    if not order or (isinstance(images.pixels, Stack) and device == "cpu"):
        yield from (to_batch(images, index) for index in order)
        return
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(to_batch, images, order[0], device)
        for following in order[1:]:
            batch = coming.result()
            coming = pool.submit(to_batch, images, following, device)
            yield batch
        yield coming.result()
