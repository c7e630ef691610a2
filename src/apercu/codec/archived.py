"""An archive in place of images: what its bytes say of their codes, so that they are recognised without a pixel."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from apercu.api import Model
from apercu.codec.archive import MAGIC, read_archive
from apercu.codec.codec import Codec, reading_codec
from apercu.codec.container import Coded, read_bytes
from apercu.codec.quality import EIGHTHS
from apercu.data.duplicates import thumbnails
from apercu.data.images import ImageSet, Problem
from apercu.data.open import Images
from apercu.data.recalled import Recalled
from apercu.errors import ApercuError, FormatError
from apercu.types import ImageSpec


def is_archive(images: object) -> bool:
    """Whether this names a file that apercu compress --archive made."""
    path = Path(images).expanduser() if isinstance(images, str | Path) else None
    return path is not None and path.is_file() and read_bytes(path, len(MAGIC)) == MAGIC


def open_archive(model: Model, path: Path) -> Images:
    """The images of an archive, all of them for training, without labels; what is damaged is among the problems.

    Raises:
        FormatError: not an archive of this model, or damaged.
        ApercuError: no image in it can be read.
    """
    codec = reading_codec(model)
    archive = read_archive(path.expanduser(), codec.fingerprint)
    there: dict[str, Coded] = {}
    problems = []
    for name in archive.entries:
        try:
            there[name] = archive.read(name)
        except FormatError as error:
            problems.append(Problem(f"{path}, {name}", str(error)))
    if not there:
        raise ApercuError(f"{path} has no image that can be read; restore it from a copy")
    images = _images(codec, there)
    nothing = images.subset([])
    return Images(images, nothing, nothing, problems, [], str(path))


def _images(codec: Codec, there: dict[str, Coded]) -> ImageSet:
    heads = [coded.head for coded in there.values()]
    sizes = np.array([head.size for head in heads], np.int64)
    height, width = sizes.max(0).tolist()
    white = max(head.maximum for head in heads)
    spec = ImageSpec(heads[0].channels, height, width, white, bool((sizes == sizes[0]).all()))
    digests = [hashlib.blake2b(coded.payload(), digest_size=16).digest() for coded in there.values()]
    return ImageSet(
        spec=spec,
        ids=list(there),
        labels=np.full(len(there), -1, np.int64),
        classes=(),
        sizes=sizes,
        hashes=np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 16),
        pixels=Archived(codec, list(there.values()), np.dtype(spec.dtype)),
        rows=np.arange(len(there)),
    )


class Archived(Recalled):
    """Coded images; their pixels are what they decode to."""

    prices = None

    def __init__(self, codec: Codec, coded: list[Coded], dtype: np.dtype[Any]) -> None:
        self.codec, self.coded, self._dtype = codec, coded, dtype
        self.fingerprint = codec.model.fingerprint

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the deepest image."""
        return self._dtype

    def __len__(self) -> int:
        return len(self.coded)

    def codes(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """(B, N, D), what the symbols stand for; images of several qualities one by one."""
        some = self._some(rows)
        together = [some] if len({coded.head for coded in some}) == 1 else [[coded] for coded in some]
        return np.concatenate([self._values(alike) for alike in together])

    def _values(self, coded: list[Coded]) -> NDArray[Any]:
        codec = self.codec
        symbols = codec.read_symbols(coded).to(codec.model.device)
        with torch.no_grad():
            values: NDArray[Any] = codec.symbols.code(symbols, coded[0].head.quality / EIGHTHS).cpu().numpy()
        return values

    def read(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """(B, C, H, W), decoded."""
        return np.stack(self.codec.decode(self._some(rows))).astype(self._dtype)

    def thumbnails(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Of the decoded images."""
        alone = (self.codec.decode([coded])[0] / coded.head.maximum for coded in self._some(rows))
        return np.concatenate([thumbnails(pixels[None], 1.0) for pixels in alone])

    def _some(self, rows: Iterable[int]) -> list[Coded]:
        return [self.coded[row] for row in rows]
