"""A CSV file with a column of paths, relative to it, and optionally labels and splits."""

from __future__ import annotations

import csv
from collections import defaultdict
from functools import partial
from pathlib import Path

import numpy as np

from apercu.data.decode import decode_file
from apercu.data.sources.base import SPLITS, Found, Part, as_path, number_labels
from apercu.errors import ApercuError

PATH_COLUMNS = ("path", "file", "image", "filename", "id")
LABEL_COLUMNS = ("label", "class")


def accepts(images: object) -> bool:
    """Whether `images` names a `.csv` or `.tsv` file."""
    path = as_path(images)
    return path is not None and path.suffix.lower() in (".csv", ".tsv") and path.is_file()


def open(images: object) -> Found:
    """List the rows; an empty label is unknown, an empty split is train.

    Raises:
        ApercuError: no column of paths, or the same path with two labels.
    """
    path = Path(str(images)).expanduser()
    rows = read_table(path)
    column = find_column(rows, PATH_COLUMNS)
    if column is None:
        raise ApercuError(f"{path.name} has no column of paths: name one of its columns path, file or image")
    label, split = find_column(rows, LABEL_COLUMNS), find_column(rows, ("split",))
    if label is not None:
        check_repeats(rows, column, label, path.name)
    unique = {row[column]: row for row in rows}
    notes = [f"{len(rows) - len(unique)} repeated rows were left out"] if len(unique) < len(rows) else []
    names = list(unique)
    values = [unique[n][label] if label else "" for n in names]
    labels, classes = number_labels(np.array(values, dtype=object))
    by_split = defaultdict(list)
    for i, name in enumerate(names):
        by_split[_split(unique[name][split], path) if split else ""].append(i)
    parts = [
        Part(
            [partial(decode_file, str(path.parent / names[i])) for i in some], [names[i] for i in some], labels[some], s
        )
        for s, some in by_split.items()
    ]
    return Found(parts, classes, notes)


def read_table(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file with a heading, column names in lower case, separated by comma, semicolon or tab.

    Raises:
        ApercuError: it cannot be read, or has no rows.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ApercuError(f"{path} cannot be read as a CSV file in UTF-8 ({error})") from None
    heading = text.partition("\n")[0]
    separator = max(",;\t", key=heading.count)
    table = csv.DictReader(text.splitlines(), delimiter=separator, restval="")
    try:
        rows = [{(k or "").strip().lower(): (v or "").strip() for k, v in row.items() if k} for row in table]
    except csv.Error as error:
        raise ApercuError(f"{path.name} is not a CSV file ({error})") from None
    if not rows:
        raise ApercuError(f"{path.name} has no rows: write a heading such as path,label and one row for each image")
    return rows


def find_column(rows: list[dict[str, str]], names: tuple[str, ...]) -> str | None:
    """The first of `names` that is a column."""
    return next((name for name in names if name in rows[0]), None)


def check_repeats(rows: list[dict[str, str]], column: str, label: str, name: str) -> None:
    """See that every path has one label.

    Raises:
        ApercuError: a path has two.
    """
    labels: dict[str, str] = {}
    for row in rows:
        if labels.setdefault(row[column], row[label]) != row[label]:
            raise ApercuError(f"{name} names {row[column]} twice with different labels: keep one row")


def _split(value: str, path: Path) -> str:
    if value and value.lower() not in SPLITS:
        raise ApercuError(f"{path.name} has the split {value!r}: use train, val or test")
    return SPLITS.get(value.lower(), "train")
