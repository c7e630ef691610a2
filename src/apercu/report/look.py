"""One pass of the model over images: all that the page measures and shows of them, and nothing that fills memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from apercu import metrics
from apercu.api import Model
from apercu.bottlenecks.base import Health
from apercu.data.images import ImageSet
from apercu.heads import pooled
from apercu.pages.pictures import Film, Picture
from apercu.types import Code
from apercu.validate import TOKENS, concatenate, sample_of

MOST, FEWEST = 2000, 36
PIXELS = 2_500_000  # in one pass, so that large images do not take minutes
TOGETHER = 3_000_000  # values in one step, so that they do not fill memory
SPRITES = 3_000_000  # pixels in all the thumbnails of one page
LARGEST_SPRITE = 72

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Redrawn:
    """How near images come back: `psnr` and `ssim`, (N,); `baseline`: the PSNR of the average image, where images share
    a size."""

    psnr: Floats
    ssim: Floats
    baseline: float | None


@dataclass(frozen=True)
class Look:
    """What one pass found.

    `total`: how many images there were to look at; `features`: (N, K), one vector for each image; `redrawn`: None where
    the model decodes no pixels; `code`: the code of the first images; `sprites`: one thumbnail for each image.
    """

    images: ImageSet
    total: int
    film: Film
    features: Floats
    redrawn: Redrawn | None
    health: Health
    code: Code
    sprites: list[Picture]

    def __len__(self) -> int:
        return len(self.images)

    @property
    def counted(self) -> str:
        """2,000, or 2,000 of 10,000."""
        return f"{len(self):,}" if len(self) == self.total else f"{len(self):,} of {self.total:,}"


def parts(images: ImageSet) -> Iterator[NDArray[np.int64]]:
    """Positions of images, as many at a time as memory allows."""
    step = min(250, max(1, TOGETHER // images.spec.dimensions))
    for start in range(0, len(images), step):
        yield np.arange(start, min(start + step, len(images)))


def look(model: Model, images: ImageSet) -> Look:
    """Encode and, where it draws, decode at most `MOST` of the images, fewer where they are large."""
    total, draws = len(images), model.network.backbone is None
    images = sample_of(images, min(MOST, max(FEWEST, int(PIXELS / images.sizes.prod(1).mean()))))
    count = len(images)
    side = min(LARGEST_SPRITE, int((SPRITES / count) ** 0.5))
    film = Film.for_images([_pixels(images, i) for i in range(min(count, 50))], images.spec.maximum)
    features: dict[int, Floats] = {}
    psnr, ssim = np.zeros(count, np.float32), np.zeros(count, np.float32)
    sprites: dict[int, Picture] = {}
    codes: list[Code] = []
    tokens = 0
    for part in parts(images):
        for batch, output in model.outputs(images.subset(part), decode=draws):
            index = part[batch.index.cpu().numpy()]
            x = batch.x.detach().float().cpu()
            if output.pixels is not None:
                decoded = output.pixels.mean.detach().float().cpu()
                psnr[index], ssim[index] = metrics.psnr(x, decoded).numpy(), metrics.ssim(x, decoded).numpy()
            # Maps of different sizes pool to vectors of different lengths: their mean token is common to all.
            vectors = pooled(output.code) if images.spec.uniform else output.code.mean.mean(1)
            for i, vector, image in zip(index.tolist(), vectors.detach().float().cpu().numpy(), x.numpy(), strict=True):
                features[i], sprites[i] = vector, film.develop(image, side)
            if tokens < TOKENS:
                codes.append(_kept(output.code))
                tokens += output.code.mean.shape[0] * output.code.mean.shape[1]
    return Look(
        images,
        total,
        film,
        np.stack([features[i] for i in range(count)]),
        Redrawn(psnr, ssim, _baseline(images)) if draws else None,
        model.network.bottleneck.health(concatenate(codes)),
        codes[0],
        [sprites[i] for i in range(count)],
    )


def reconstructions(model: Model, images: ImageSet, index: NDArray[np.int64]) -> dict[int, tuple[Floats, Floats]]:
    """Image and reconstruction, (C, H, W) in [0, 1], by position."""
    found: dict[int, tuple[Floats, Floats]] = {}
    for i in index.tolist():
        for batch, output in model.outputs(images.subset([i])):
            if output.pixels is not None:
                found[i] = batch.x[0].detach().cpu().numpy(), output.pixels.mean[0].detach().float().cpu().numpy()
    return found


def picture_of(look: Look, images: ImageSet, i: int, side: int) -> Picture:
    """Image number `i` of `images`, shown as those that were looked at."""
    return look.film.develop(_pixels(images, i), side)


def _pixels(images: ImageSet, i: int) -> Floats:
    pixels: Floats = images.read([i])[0].astype(np.float32) / np.float32(images.spec.maximum)
    return pixels


def _kept(code: Code) -> Code:
    mean = code.mean.detach().float().cpu()
    scale = None if code.scale is None else code.scale.detach().float().cpu()
    symbols = None if code.symbols is None else code.symbols.cpu()
    return dataclasses.replace(code, z=mean, mean=mean, costs={}, scale=scale, symbols=symbols)


def _baseline(images: ImageSet) -> float | None:
    """The mean PSNR of the average image, which needs no code."""
    if not images.spec.uniform or len(images) < 2:
        return None
    total = np.zeros(images.spec.shape, np.float64)
    for part in parts(images):
        total += images.read(part).sum(0, dtype=np.float64)
    average = torch.from_numpy((total / len(images) / images.spec.maximum).astype(np.float32))
    values = []
    for part in parts(images):
        x = torch.from_numpy(images.read(part).astype(np.float32) / np.float32(images.spec.maximum))
        values.append(metrics.psnr(x, average))
    return float(torch.cat(values).mean())
