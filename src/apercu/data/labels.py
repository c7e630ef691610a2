"""Hide labels, to learn from few: a class-balanced draw of so many, or those that a CSV file names."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apercu.data.images import ImageSet
from apercu.data.open import Images
from apercu.data.sources.base import number_labels, unknown
from apercu.data.sources.csv import LABEL_COLUMNS, PATH_COLUMNS, check_repeats, find_column, read_table
from apercu.errors import ApercuError


def hide_labels(images: Images, labels: int | str | Path | None, seed: int) -> Images:
    """Keep `labels` labels for training and hide the others in train and val; test keeps its own, to evaluate with.

    `labels`: how many, drawn by `seed` as evenly over the classes as they allow, more being a superset of fewer; or a
    CSV file with a path and a label in each row; or None, for all. A note names classes that are hardly labelled.

    Raises:
        ApercuError: fewer labels than classes, more than there are, one class only, or unknown names in the CSV file.
    """
    if labels is None:
        return _warned(images)
    if isinstance(labels, str) and labels.strip().isdecimal():
        labels = int(labels)
    if isinstance(labels, int):
        return _draw(_warned(images), labels, seed)
    path = Path(labels).expanduser()
    if not path.is_file():
        raise ApercuError(
            f"{str(labels)!r} is neither a whole number of labels nor a file that is there: "
            "give how many labels to keep, or a CSV file with path and label"
        )
    return _warned(_read(images, path))


def check_labelled(images: Images) -> None:
    """See that there is something to learn from labels.

    Raises:
        ApercuError: fewer than two classes have a labelled training image; says where the labels are.
    """
    known = len(np.unique(images.train.labels[images.train.labels >= 0]))
    if known >= 2:
        return
    counts = {name: int((images.split(name).labels >= 0).sum()) for name in ("val", "test")}
    elsewhere = " and ".join(f"{count} in {name}" for name, count in counts.items() if count)
    raise ApercuError(
        f"{'only one class has labelled training images' if known else 'no training image has a label'}"
        f"{f' ({elsewhere} have one)' if elsewhere else ''}: label training images of at least two classes, "
        "or learn without labels with --preset vae"
    )


def _warned(images: Images) -> Images:
    """With a note about classes that have no labelled training image or only one, where there is something to tell."""
    labels, classes = images.train.labels, images.train.classes
    counts = np.bincount(labels[labels >= 0], minlength=len(classes))
    if (counts > 0).sum() < 2:
        return images
    notes = [
        f"{what}: {', '.join(names[:20])}"
        for number, what in (
            (0, "classes without a labelled training image, which cannot be recognised"),
            (1, "classes with only one labelled training image, of which more would help"),
        )
        if (names := [name for name, count in zip(classes, counts, strict=True) if count == number])
    ]
    return replace(images, notes=[*images.notes, *notes]) if notes else images


def _draw(images: Images, count: int, seed: int) -> Images:
    train = images.train
    known = train.labels[train.labels >= 0]
    present = np.unique(known)
    if len(present) < 2:
        raise ApercuError(
            f"the training images have {'one class' if len(present) else 'no classes'}: "
            "put the images of each class into a folder of its own, or name labels in a CSV file"
        )
    if count < len(present):
        raise ApercuError(f"{count} labels are fewer than the {len(present)} classes: ask for at least {len(present)}")
    if count > len(known):
        raise ApercuError(f"{count} labels are more than the {len(known)} there are: ask for fewer, or for all")
    kept = unknown(len(train))
    chosen = _even_draw(train, present, count, seed)
    kept[chosen] = train.labels[chosen]
    each = Counter(kept[chosen].tolist()).values()
    spread = f"{min(each)}" if min(each) == max(each) else f"{min(each)} to {max(each)}"
    note = f"{count} of {len(known)} training labels were kept, {spread} for each class (seed {seed}); val has none"
    return replace(
        images,
        train=train.with_labels(kept),
        val=images.val.with_labels(unknown(len(images.val))),
        notes=[*images.notes, note],
    )


def _even_draw(train: ImageSet, classes: NDArray[np.int64], count: int, seed: int) -> NDArray[np.int64]:
    """Rows of `count` labelled images: one of each class in turn, until there are enough."""
    rng = np.random.default_rng(seed)
    # Sorted by content first, so that the draw does not depend on the order of files.
    order = np.lexsort(train.hashes.T[::-1])
    order = order[rng.permutation(len(order))]
    turn = np.full(len(train), len(train))
    for c in rng.permutation(classes):
        members = order[train.labels[order] == c]
        turn[members] = np.arange(len(members))
    labelled = order[train.labels[order] >= 0]
    rank = {c: i for i, c in enumerate(rng.permutation(classes).tolist())}
    place = np.array([rank[c] for c in train.labels[labelled].tolist()])
    return labelled[np.lexsort((place, turn[labelled]))][:count]


def _read(images: Images, path: Path) -> Images:
    rows = read_table(path)
    column, label = find_column(rows, PATH_COLUMNS), find_column(rows, LABEL_COLUMNS)
    if column is None or label is None:
        raise ApercuError(f"{path.name} needs the columns path and label")
    check_repeats(rows, column, label, path.name)
    skipped = {problem.id for problem in images.problems}
    given = {row[column]: row[label] for row in rows if row[label] and row[column] not in skipped}
    named = sorted(set(given.values()))
    if len(named) < 2:
        found = f"names one class, {named[0]}" if named else "has no labels"
        raise ApercuError(f"{path.name} {found}: label images of at least two classes")
    index = _index(images)
    strange = [name for name in given if name not in index]
    if strange:
        more = f" and {len(strange) - 1} more that are" if len(strange) > 1 else ", which is"
        raise ApercuError(
            f"{path.name} names {strange[0]!r}{more} none of the images: write paths relative to {images.origin}"
        )
    old = images.train.classes
    inside = [value in old for value in given.values()]
    if any(inside) and not all(inside):
        other = next(v for v in given.values() if v not in old)
        raise ApercuError(f"{path.name} has the label {other!r}, which is none of the classes {', '.join(old[:20])}")
    numbers, classes = number_labels(np.array(list(given.values()), dtype=object), old if all(inside) else None)
    labels: dict[str, NDArray[Any]] = {name: unknown(len(images.split(name))) for name in ("train", "val", "test")}
    if all(inside):
        labels["test"] = images.test.labels.copy()
    for name, number in zip(given, numbers.tolist(), strict=True):
        split, row = index[name]
        labels[split][row] = number
    note = f"{len(given)} labels were read from {path.name}; the other images of train and val have none"
    if old and not all(inside):
        note += f"; its classes {', '.join(classes[:20])} replace {', '.join(old[:20])}"
    train, val, test = (images.split(split).with_labels(values, classes) for split, values in labels.items())
    kept = replace(images, train=train, val=val, test=test, notes=[*images.notes, note])
    check_labelled(kept)
    return kept


def _index(images: Images) -> dict[str, tuple[str, int]]:
    """Where each image stands, (split, row), by its id and, where that names one image only, by its file name."""
    places = [(name, s, i) for s in ("train", "val", "test") for i, name in enumerate(images.split(s).ids)]
    short = Counter(PurePath(name).name for name, _, _ in places)
    by_name = {PurePath(n).name: (s, i) for n, s, i in places if short[PurePath(n).name] == 1}
    return by_name | {name: (s, i) for name, s, i in places}
