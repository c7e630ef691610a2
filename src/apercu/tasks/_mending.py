"""A damaged image through a model: whole, or tile by tile where it is large; and the holes that a person marked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from apercu.corruptions.holes import fill
from apercu.data.convert import DEPTHS, WHITE
from apercu.data.decode import EXTENSIONS, decode_file
from apercu.data.tiles import Box, blend, boxes
from apercu.errors import ApercuError
from apercu.model import Autoencoder

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Mender:
    """x̂ = E[x | z], z the code of the damaged image; in tiles of `side` pixels where it is larger.

    `grey`: whether the network learnt to see mid-grey as a hole; otherwise its encoder is told what it does not see.
    """

    network: Autoencoder
    side: int
    grey: bool = True

    def __call__(self, x: Tensor, hole: Tensor | None = None, noise: bool = False) -> Tensor:
        """The mended images; what lies outside of the hole stays as it is.

        Args:
            x: (B, C, H, W) in [0, 1].
            hole: (B, 1, H, W) bool, the pixels that are missing, where that is known.
            noise: whether the code is drawn, or its mean is taken.
        """
        size = (x.shape[2], x.shape[3])
        places = self._places(size)
        tiles = []
        for top, left, height, width in places:
            here = (..., slice(top, top + height), slice(left, left + width))
            tiles.append(self._whole(x[here], None if hole is None else hole[here], noise).cpu().numpy())
        maps = [
            np.stack([blend([tile[i, c] for tile in tiles], places, size) for c in range(x.shape[1])])
            for i in range(len(x))
        ]
        mended = torch.from_numpy(np.stack(maps)).to(x.device)
        return mended if hole is None else torch.where(hole, mended, x)

    def _places(self, size: tuple[int, int]) -> list[Box]:
        """Where the tiles of an image of `size` stand: on the cells of its code, as in the whole."""
        if self.network.fixed_size:
            return [(0, 0, *size)]
        stride = self.network.encoder.stride
        side = max(1, self.side // stride)
        cells = [tuple(stride * n for n in box) for box in boxes(self.network.grid(size), (side, side))]
        return [(top, left, min(high, size[0] - top), min(wide, size[1] - left)) for top, left, high, wide in cells]

    @torch.no_grad()
    def _whole(self, x: Tensor, hole: Tensor | None, noise: bool) -> Tensor:
        """(B, C, H, W) → the same."""
        if hole is not None and self.grey:
            x, hole = fill(x, hole), None
        code = self.network.encode(x, noise, hole)
        return self.network.decode(code.z, code.grid, (x.shape[2], x.shape[3])).mean


class Masks:
    """The holes of images, white in a picture of the same size: one for all of them, or a folder with one for each.

    Raises:
        ApercuError: there is no such file or folder.
    """

    def __init__(self, source: str) -> None:
        self.source = Path(source).expanduser()
        if not self.source.exists():
            raise ApercuError(
                f"there is no mask {source!r}; name a picture whose white pixels are missing, or a folder"
            )
        files = sorted(self.source.rglob("*")) if self.source.is_dir() else []
        self.files = {
            _key(path.relative_to(self.source).as_posix()): path
            for path in files
            if path.suffix.lower() in EXTENSIONS and path.is_file()
        }

    def of(self, image_id: str, size: tuple[int, int]) -> Mask:
        """The hole of one image of this (height, width), (H, W).

        Raises:
            ApercuError: there is no mask, it cannot be read, it has another size, or marks nothing or everything.
        """
        path = self._find(image_id)
        try:
            pixels = decode_file(path).pixels
        except ApercuError as error:
            raise ApercuError(f"the mask {path} cannot be read: {error}") from None
        if pixels.shape[1:] != size:
            has = "×".join(map(str, pixels.shape[1:]))
            raise ApercuError(
                f"the mask {path} is {has} and the image is {size[0]}×{size[1]}; they must be of one size"
            )
        # Some programs write masks of zeros and ones.
        white = 1.0 if pixels.max() <= 1 else WHITE[DEPTHS.index(pixels.dtype)]
        hole: Mask = pixels.mean(0) > white / 2
        if hole.all() or not hole.any():
            wrong = "leaves nothing to go by" if hole.all() else "marks nothing"
            raise ApercuError(f"the mask {path} {wrong}; paint the pixels that are missing white, and all others black")
        return hole

    def _find(self, image_id: str) -> Path:
        if not self.source.is_dir():
            return self.source
        key = _key(image_id)
        found = self.files.get(key) or self.files.get(PurePosixPath(key).name)
        if found is None:
            raise ApercuError(f"{self.source} has no mask for it; call it {PurePosixPath(key).name}.png")
        return found


def _key(name: str) -> str:
    """What an image and its mask share of their names: no ending, and no _mask."""
    return PurePosixPath(name).with_suffix("").as_posix().removesuffix("_mask")
