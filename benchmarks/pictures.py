"""The images that the benchmarks of the codec learn from and are measured on."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from apercu.data.images import ImageSet
from apercu.data.open import open_images

from record import SHARED

PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket", "hubble_deep_field", "retina")
"""What scikit-image ships in colour and needs no download for; the last two show sky and an eye."""
TILES = 200


def idx(name: str, split: str, most: int) -> ImageSet:
    """Images of MNIST or Fashion-MNIST: split "train", "val" (a tenth of the official training images) or "test"."""
    return first(open_images(SHARED / name).split(split), most)


def first(images: ImageSet, most: int) -> ImageSet:
    """At most so many of them."""
    return images.subset(np.arange(min(len(images), most)))


def tiles() -> tuple[ImageSet, ImageSet]:
    """Flawless magnetic tiles: 200 to learn from, and the others."""
    images = open_images(SHARED / "magnetic_tile" / "MT_Free", channels=1).split("all")
    order = np.random.default_rng(0).permutation(len(images))
    return images.subset(np.sort(order[:TILES])), images.subset(np.sort(order[TILES:]))


def kodak() -> ImageSet:
    """24 photographs of 768×512, to measure on alone."""
    return open_images(SHARED / "kodak").split("all")


def photographs() -> list[NDArray[np.uint8]]:
    """Those that scikit-image ships, (3, H, W), each as it is and at half its size."""
    from skimage import data

    found = []
    for name in PHOTOGRAPHS:
        whole = Image.fromarray(getattr(data, name)())
        for scale in (1, 2):
            smaller = whole.resize((whole.width // scale, whole.height // scale), Image.Resampling.LANCZOS)
            found.append(np.ascontiguousarray(np.asarray(smaller).transpose(2, 0, 1)))
    return found


def patches(whole: list[NDArray[Any]], side: int, count: int, seed: int) -> NDArray[Any]:
    """Squares cut where chance has it, each image as often as it is large, and turned over: (count, C, side, side)."""
    rng = np.random.default_rng(seed)
    areas = np.array([image[0].size for image in whole], np.float64)
    found = []
    for k in rng.choice(len(whole), count, p=areas / areas.sum()):
        top, left = (rng.integers(0, length - side + 1) for length in whole[k].shape[1:])
        square = whole[k][:, top : top + side, left : left + side]
        found.append(square[:, :: rng.choice([-1, 1]), :: rng.choice([-1, 1])])
    return np.stack(found)


def cifar(split: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """CIFAR-10, pixels (N, 3, 32, 32) and labels; 121 of its images come from a JPEG copy."""
    sys.path.append(str(SHARED / "cifar10"))
    from unpack import load

    pixels, labels = load(split)
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)), labels.astype(np.int64)


def natural(side: int, count: int, seed: int) -> NDArray[np.uint8]:
    """Squares to learn photographs from, (count, 3, side, side): half are cut from those of scikit-image, half are
    images of CIFAR-10, drawn larger, for they are much sharper than photographs at their own size."""
    cut = patches(photographs(), side, count // 2, seed)
    small, _ = cifar("train")
    chosen = small[np.random.default_rng(seed).permutation(len(small))[: count - len(cut)]]
    pictures = (Image.fromarray(image.transpose(1, 2, 0)) for image in chosen)
    larger = [np.asarray(picture.resize((side, side), Image.Resampling.BICUBIC)) for picture in pictures]
    return np.concatenate([cut, np.stack(larger).transpose(0, 3, 1, 2)])
