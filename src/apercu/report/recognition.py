"""What the model recognises: the classes that it names for images whose class is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apercu import metrics, registry
from apercu.api import Model
from apercu.data.images import ImageSet
from apercu.pages.pictures import Shown, shown
from apercu.pages.words import interval
from apercu.report.look import Look, parts, picture_of

MOST = 10_000
MATRIX = 25
ROWS = 60
MISTAKES = 12
SIDE = 112

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Recognition:
    """The answer for every image: `truth` and `predicted` number `classes`, −1 where the class is unknown.

    `answers`: as the task classify gives them; `calibrated`: by what, None where by nothing; `coverage`: of their sets.
    """

    images: ImageSet
    classes: tuple[str, ...]
    truth: Ints
    predicted: Ints
    probability: NDArray[np.float64]
    answers: list[dict[str, Any]]
    calibrated: dict[str, Any] | None
    coverage: float

    @property
    def known(self) -> Ints:
        """Positions of the images whose class is known."""
        return np.flatnonzero(self.truth >= 0)

    @property
    def right(self) -> int:
        """How many of them were recognised."""
        return int((self.truth == self.predicted)[self.known].sum())

    @property
    def accuracy(self) -> float | None:
        """The share of them that was recognised."""
        return self.right / len(self.known) if len(self.known) else None

    @property
    def guess(self) -> float:
        """The accuracy of always naming the most frequent class."""
        return float(np.bincount(self.truth[self.known]).max() / len(self.known))


def can_recognise(model: Model) -> bool:
    """Whether the model has a label head, or a classifier was fitted to its codes."""
    return "label" in model.network.heads or "classify" in model.recipe.tasks


def recognise(model: Model, images: ImageSet) -> Recognition | None:
    """Ask the model for the class of every image, at most `MOST`; None if it was never taught classes."""
    if not can_recognise(model) or len(images) == 0:
        return None
    if len(images) > MOST:
        images = images.subset(np.sort(np.random.default_rng(0).permutation(len(images))[:MOST]))
    task = registry.part("tasks", "classify")(model)
    said = [task(images.subset(part)) for part in parts(images)]
    answers = [answer for part in said for answer in part["predictions"]]
    classes = task.classes
    number = {name: i for i, name in enumerate(classes)}
    # The folders of these images may list the classes in another order, or others.
    table = np.array([number.get(name, -1) for name in images.classes] + [-1], np.int64)
    predicted = np.array([number[answer["label"]] for answer in answers], np.int64)
    probability = np.array([answer["probability"] for answer in answers], np.float64)
    numbers = (table[images.labels], predicted, probability)
    return Recognition(images, classes, *numbers, answers, said[0]["calibrated"], task.coverage)


@dataclass(frozen=True)
class ClassRow:
    """One class in numbers; a share is None where it has no images."""

    name: str
    n: int
    recall: float | None
    interval: str
    precision: float | None


@dataclass(frozen=True)
class Confused:
    """So many images of one class that were taken for another."""

    truth: str
    predicted: str
    count: int
    share: float


@dataclass(frozen=True)
class Mistake:
    """An image that was not recognised."""

    picture: Shown
    id: str
    truth: str
    predicted: str
    probability: float


@dataclass(frozen=True)
class Classes:
    """Class by class; `matrix` is there where it is small enough to read, `hidden` counts rows that are left out."""

    rows: list[ClassRow]
    hidden: int
    names: list[str]
    matrix: list[list[int]]
    confused: list[Confused]
    mistakes: list[Mistake]
    right: int
    wrong: int


def class_by_class(found: Recognition, look: Look) -> Classes:
    """Recall, precision and confusion of every class, and the mistakes that the model was surest of."""
    truth, predicted = found.truth[found.known], found.predicted[found.known]
    result = metrics.classification(truth, predicted, found.classes)
    confusion = np.array(result["confusion"], np.int64)
    counts, said = confusion.sum(1), confusion.sum(0)
    rows = [_row(name, int(confusion[k, k]), int(counts[k]), int(said[k])) for k, name in enumerate(found.classes)]
    # Where there are too many classes to read, the hardest are the ones worth reading.
    shown_rows = rows if len(rows) <= ROWS else sorted(rows, key=lambda row: (row.recall is None, row.recall))[:ROWS]
    off = confusion - np.diag(confusion.diagonal())
    pairs = np.argsort(-off, axis=None, kind="stable")[:12]
    confused = [
        Confused(found.classes[i], found.classes[j], int(off[i, j]), float(off[i, j] / counts[i]))
        for i, j in zip(*np.unravel_index(pairs, off.shape), strict=True)
        if off[i, j]
    ]
    small = len(rows) <= MATRIX
    return Classes(
        shown_rows,
        len(rows) - len(shown_rows),
        list(found.classes) if small else [],
        confusion.tolist() if small else [],
        confused,
        _mistakes(found, look),
        found.right,
        len(truth) - found.right,
    )


def _row(name: str, right: int, n: int, said: int) -> ClassRow:
    return ClassRow(
        name,
        n,
        right / n if n else None,
        interval(right, n) if n else "",
        right / said if said else None,
    )


def _mistakes(found: Recognition, look: Look) -> list[Mistake]:
    wrong = found.known[(found.truth != found.predicted)[found.known]]
    surest = wrong[np.argsort(-found.probability[wrong], kind="stable")][:MISTAKES]
    mistakes = []
    for i in surest.tolist():
        truth, predicted = found.classes[found.truth[i]], found.classes[found.predicted[i]]
        picture = picture_of(look, found.images, i, SIDE)
        alt = f"{found.images.ids[i]}, {truth}, taken for {predicted}"
        mistakes.append(
            Mistake(shown(picture, alt), found.images.ids[i], truth, predicted, float(found.probability[i]))
        )
    return mistakes
