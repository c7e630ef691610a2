"""NumPy files: `.npz` with the keys of MedMNIST or Keras, or one array in an `.npz` or `.npy`."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apercu.data.sources.arrays import to_channels_first
from apercu.data.sources.base import Found, Part, as_path, number_labels, unknown
from apercu.errors import ApercuError

# (images, labels, split)
KEYS = (
    ("train_images", "train_labels", "train"), ("val_images", "val_labels", "val"),
    ("test_images", "test_labels", "test"), ("x_train", "y_train", "train"), ("x_val", "y_val", "val"),
    ("x_test", "y_test", "test"), ("images", "labels", ""), ("x", "y", ""),
)  # fmt: skip


def accepts(images: object) -> bool:
    """Whether `images` names an `.npz` or `.npy` file."""
    path = as_path(images)
    return path is not None and path.suffix.lower() in (".npz", ".npy") and path.is_file()


def open(images: object) -> Found:
    """Read the arrays; an `.npy` file is mapped, not loaded.

    Raises:
        ApercuError: the file is damaged, or no known key is in it.
    """
    path = Path(str(images)).expanduser()
    notes: list[str] = []
    found: list[tuple[str, NDArray[Any], object, str]] = []
    try:
        if path.suffix.lower() == ".npy":
            found.append((path.name, np.lib.format.open_memmap(path, mode="r"), None, ""))
        elif not zipfile.is_zipfile(path):
            raise ValueError("it is not a zip file")
        else:
            with np.load(path, allow_pickle=False) as file:
                keys = {name.lower(): name for name in file.files}
                present = [k for k in KEYS if k[0] in keys]
                if not present and len(keys) == 1:
                    present = [(next(iter(keys)), "", "")]
                found += [(x, file[keys[x]], file[keys[y]] if y in keys else None, s) for x, y, s in present]
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ApercuError(f"{path.name} cannot be read ({error}): write it again with numpy.savez") from None
    if not found:
        raise ApercuError(
            f"{path.name} holds {', '.join(sorted(keys))}: name the arrays train_images and train_labels, "
            "or x_train and y_train"
        )
    labels = [_labels(y, len(x), name, notes) for name, x, y, _ in found]
    together, classes = number_labels(np.concatenate(labels))
    ends = np.cumsum([len(x) for _, x, _, _ in found])[:-1]
    parts = []
    for (name, x, _, split), y in zip(found, np.split(together, ends), strict=True):
        pixels = to_channels_first(x, notes)
        parts.append(Part(pixels, [f"{name}#{i}" for i in range(len(pixels))], y, split))
    return Found(parts, classes, notes)


def _labels(y: object, count: int, name: str, notes: list[str]) -> NDArray[Any]:
    if y is None:
        return unknown(count)
    labels = np.asarray(y)
    if labels.ndim == 2 and labels.shape[1] > 1:
        notes.append(f"{name}: an image has {labels.shape[1]} labels at once, so it was opened without labels")
        return unknown(count)
    labels = labels.reshape(-1)
    if len(labels) != count:
        raise ApercuError(f"{name} holds {count} images, but there are {len(labels)} labels: give one for each image")
    return labels
