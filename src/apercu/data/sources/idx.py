"""The idx layout of MNIST: `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`, …, with or without `.gz`."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apercu.data.sources.base import Found, Part, as_path, number_labels, unknown
from apercu.errors import ApercuError

TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
SPLITS = {"train": "train", "t10k": "test", "test": "test", "val": "val"}


def accepts(images: object) -> bool:
    """Whether `images` names a folder with idx image files, or one such file."""
    path = as_path(images)
    if path is None:
        return False
    return bool(_image_files(path)) if path.is_dir() else path.is_file() and _is_images(path)


def open(images: object) -> Found:
    """Read every idx image file, with its labels where they lie beside it.

    Raises:
        ApercuError: a file is damaged, or its labels do not fit.
    """
    path = Path(str(images)).expanduser()
    files = _image_files(path) if path.is_dir() else [path]
    arrays, raw_labels = [], []
    for file in files:
        array = read_idx(file)
        if array.ndim not in (3, 4):
            raise ApercuError(f"{file.name} holds an array of {array.ndim} dimensions, not images")
        labels_file = _labels_file(file)
        labels = read_idx(labels_file).astype(np.int64) if labels_file else unknown(len(array))
        if labels.shape != (len(array),):
            raise ApercuError(f"{file.name} holds {len(array)} images, but {labels.shape} labels lie beside it")
        arrays.append(array[:, None] if array.ndim == 3 else np.moveaxis(array, -1, 1))
        raw_labels.append(labels)
    labels, classes = number_labels(np.concatenate(raw_labels))
    ends = np.cumsum([len(a) for a in arrays])[:-1]
    parts = [
        Part(array, [f"{file.name}#{i}" for i in range(len(array))], y, SPLITS.get(file.name.split("-")[0], ""))
        for file, array, y in zip(files, arrays, np.split(labels, ends), strict=True)
    ]
    return Found(parts, classes)


def read_idx(path: Path) -> NDArray[Any]:
    """The array in one idx file, gzipped or not.

    Raises:
        ApercuError: the file is damaged.
    """
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise ApercuError(f"{path.name} cannot be read ({error}): download it again") from None
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in TYPES:
        raise ApercuError(f"{path.name} is not an idx file: download it again")
    start = 4 + 4 * data[3]
    shape = tuple(np.frombuffer(data[4:start], ">u4").tolist())
    values = np.frombuffer(data[start:], TYPES[data[2]])
    if len(values) != np.prod(shape, dtype=np.int64):
        raise ApercuError(f"{path.name} is truncated: download it again")
    return values.reshape(shape)


def _is_images(path: Path) -> bool:
    return "-images" in path.name and "idx" in path.name


def _image_files(folder: Path) -> list[Path]:
    found = {f.name.removesuffix(".gz"): f for f in sorted(folder.glob("*-images*idx*"), reverse=True)}
    return sorted(found.values())


def _labels_file(images: Path) -> Path | None:
    plain = (
        images.name.removesuffix(".gz").replace("-images", "-labels").replace("idx3", "idx1").replace("idx4", "idx1")
    )
    candidates = [images.with_name(plain), images.with_name(plain + ".gz")]
    return next((c for c in candidates if c.is_file()), None)
