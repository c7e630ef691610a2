"""What is known to vary in images: their classes, and the columns of a CSV file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from apercu.data.images import ImageSet
from apercu.data.sources.csv import LABEL_COLUMNS, PATH_COLUMNS, find_column, read_table
from apercu.errors import ApercuError
from apercu.explain.disentanglement import Factor

FEW = 20
"""Numbers with more values than this are a quantity, and with fewer they are classes."""


def known_factors(images: ImageSet, file: str) -> tuple[ImageSet, dict[str, Factor]]:
    """The images of which every factor is known, and the factors that vary: the class, and the columns of `file`.

    Raises:
        ApercuError: no factor, a file without a column of paths, or one that names none of the images.
    """
    columns: dict[str, list[str]] = {}
    if len(images.classes) and (images.labels >= 0).any():
        columns["class"] = [images.classes[k] if k >= 0 else "" for k in images.labels]
    if file:
        columns |= _read(images, Path(file).expanduser())
    complete = np.all([[value != "" for value in values] for values in columns.values()], axis=0) if columns else []
    rows = np.flatnonzero(complete)
    factors = {name: _factor([values[i] for i in rows]) for name, values in columns.items()}
    factors = {name: factor for name, factor in factors.items() if len(np.unique(factor.values)) > 1}
    if not factors:
        raise ApercuError(
            "nothing is known to vary in these images; name images with classes, or a CSV file with a path and what "
            "varies: -s factors=FILE.csv"
        )
    return images.subset(rows), factors


def _read(images: ImageSet, path: Path) -> dict[str, list[str]]:
    if not path.is_file():
        raise ApercuError(f"there is no file {str(path)!r}: name a CSV file with a path and what varies in each image")
    table = read_table(path)
    column = find_column(table, PATH_COLUMNS)
    if column is None:
        raise ApercuError(f"{path.name} has no column of paths: name one of its columns path, file or image")
    known = {row[column]: row for row in table}
    if not any(name in known for name in images.ids):
        raise ApercuError(
            f"{path.name} names none of these images: write their paths as they are shown, such as {images.ids[0]}"
        )
    names = [name for name in table[0] if name != column and name not in LABEL_COLUMNS]
    return {name: [known.get(image_id, {}).get(name, "") for image_id in images.ids] for name in names}


def _factor(values: list[str]) -> Factor:
    """Numbers where all are numbers and there are many of them, otherwise classes."""
    classes, numbers = np.unique(values, return_inverse=True) if values else (np.empty(0, str), np.empty(0, np.int64))
    if len(classes) > FEW:
        try:
            return Factor(np.array(values, np.float64), quantity=True)
        except ValueError:
            pass
    return Factor(numbers.astype(np.int64), quantity=False)
