"""Parquet files with images, and data sets of Hugging Face: `photos.parquet`, `hf:owner/name`, `hf:/a/folder`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from apercu.data.decode import Decoded, decode, decode_file
from apercu.data.sources.base import SPLITS, Found, Part, as_path, number_labels
from apercu.errors import ApercuError

if TYPE_CHECKING:
    import datasets

LABEL_COLUMNS = ("label", "labels", "class", "fine_label", "target")


def accepts(images: object) -> bool:
    """Whether `images` begins with `hf:`, or names a `.parquet` file or a folder of them."""
    if isinstance(images, str) and images.startswith("hf:"):
        return True
    path = as_path(images)
    if path is None:
        return False
    return any(path.rglob("*.parquet")) if path.is_dir() else path.suffix.lower() == ".parquet" and path.is_file()


def open(images: object) -> Found:
    """Find the column of images by its type, and the labels by theirs.

    Raises:
        ApercuError: the extra is not installed, the data set cannot be loaded, or it holds no images.
    """
    try:
        import datasets
    except ImportError:
        raise ApercuError("parquet and hf: need an extra: pip install 'apercu[datasets]'") from None

    name = str(images).removeprefix("hf:")
    path = Path(name).expanduser()
    quiet = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        if path.is_file():
            loaded = datasets.load_dataset("parquet", data_files=str(path))
        else:
            loaded = datasets.load_dataset(str(path) if path.is_dir() else name)
    except Exception as error:  # the library raises a dozen kinds, network ones among them
        raise ApercuError(f"{name!r} cannot be loaded ({' '.join(str(error).split())[:200]})") from error
    finally:
        if quiet:
            datasets.enable_progress_bars()
    official = len(loaded) > 1
    first = next(iter(loaded.values()))
    image = _image_column(first.features, name)
    label = _label_column(first.features)
    classes = getattr(first.features[label], "names", None) if label else None
    tables = {split: table.cast_column(image, datasets.Image(decode=False)) for split, table in loaded.items()}
    values = [np.array(t[label][:] if label else [-1] * len(t)) for t in tables.values()]
    labels, names = number_labels(np.concatenate(values), classes)
    ends = np.cumsum([len(t) for t in tables.values()])[:-1]
    parts = []
    for (split, table), y in zip(tables.items(), np.split(labels, ends), strict=True):
        loaders = [partial(_load, table, image, i) for i in range(len(table))]
        ids = [f"{split}#{i}" for i in range(len(table))]
        parts.append(Part(loaders, ids, y, SPLITS.get(str(split).lower(), "train") if official else ""))
    return Found(parts, names if label else ())


def _load(table: datasets.Dataset, column: str, row: int) -> Decoded:
    value = table[row][column]
    if value is None:
        raise ApercuError("the image is missing")
    return decode(value["bytes"]) if value["bytes"] is not None else decode_file(value["path"])


def _image_column(features: datasets.Features, name: str) -> str:
    found = [column for column, kind in features.items() if type(kind).__name__ == "Image"]
    # A file that was not written by the library keeps its images as a struct of bytes and a path.
    found += [column for column, kind in features.items() if isinstance(kind, dict) and "bytes" in kind]
    if not found:
        raise ApercuError(f"{name!r} has no column of images: its columns are {', '.join(features)}")
    return str(found[0])


def _label_column(features: datasets.Features) -> str | None:
    typed = [column for column, kind in features.items() if type(kind).__name__ == "ClassLabel"]
    named = [column for column in LABEL_COLUMNS if column in features]
    return next(iter([c for c in named if c in typed] + typed + named), None)
