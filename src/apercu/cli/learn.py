"""Images for a task: opened as its model's own were, and the labels among them that it learns from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from apercu.cli.options import FitName
from apercu.cli.output import in_words, note
from apercu.errors import ApercuError

if TYPE_CHECKING:
    from apercu.api import Model
    from apercu.data.images import ImageSet
    from apercu.data.open import Images

HANDFUL = 100


@dataclass(frozen=True)
class View:
    """How images are opened for a model, where not as its own were."""

    size: str | None
    fit: FitName | None
    channels: int | None

    def whole(self, model: Model, images: str) -> Images:
        """All splits; of an archive that the model wrote, what its bytes say.

        Images of a size that the model cannot take are left out like those that cannot be read, where there are others.
        """
        from apercu.codec.archived import is_archive, open_archive
        from apercu.data.opening import Opening

        usual = Opening(**model.recipe.data.get("request", {}))
        opening = replace(
            usual,
            labels=None,
            strict=False,
            normal=None,
            size=self.size or usual.size,
            fit=self.fit or usual.fit,
            channels=self.channels or usual.channels,
        )
        archived = is_archive(images)
        opened = open_archive(model, Path(images)) if archived else _of_size(model, opening.open(images, 0))
        for problem in opened.problems:
            note(f"left out: {problem.id}: {problem.reason}")
        return opened

    def open(self, model: Model, images: str, split: str, labels: str | None = None) -> ImageSet:
        """The images of one split as the model sees them; `labels` is a CSV file that says what they are."""
        opened = self.whole(model, images)
        seen = model.images(opened if labels is None else _labelled(opened, labels, 0), split)
        # A size that was asked for here is that of the answer too.
        return seen if self.size is None else replace(seen, original=None)


@dataclass(frozen=True)
class Lesson:
    """What a task is to learn from first: `images`, all their labels or those of `labels`, or `shots` of each class."""

    images: str | None
    labels: str | None
    shots: int | None

    def teach(self, task: Any, name: str, view: View, asked: str | None) -> None:  # noqa: ANN401
        """Fit the task called `name`, which is then asked for the images called `asked`.

        Raises:
            ApercuError: labels or shots without images, both of them, or more than there are.
        """
        if self.images is None:
            for option in [name for name, value in (("--labels", self.labels), ("--shots", self.shots)) if value]:
                raise ApercuError(f"{option} says which labels to learn from: name the images with --learn")
            return
        note(f"fitting {name} on {self.images}")
        learnt = self._open(task, view, apart=not same(self.images, asked))
        fitted = task.fit(task.model.images(learnt, "train"), task.model.images(learnt, "val"))
        note(in_words(fitted))

    def _open(self, task: Any, view: View, apart: bool) -> Images:  # noqa: ANN401
        seed, count = getattr(task, "seed", 0), None if names_file(self.labels) else self.labels
        opened = view.whole(task.model, str(self.images))
        if names_file(self.labels):
            opened = _labelled(opened, str(self.labels), seed)
        if apart:
            opened = _all_if_few(opened, self.shots or 1)
        if count is not None and self.shots is not None:
            raise ApercuError("--labels N and --shots both say how many labels to keep; give one of them")
        if self.shots is not None:
            count = _count(opened, self.shots)
        return opened if count is None else _labelled(opened, count, seed)


def _of_size(model: Model, opened: Images) -> Images:
    (train, *found), (val, *more), (test, *most) = (model.of_size(opened.split(n)) for n in ("train", "val", "test"))
    if not len(train) + len(val) + len(test):
        return opened  # which is then refused as a whole
    problems = [*opened.problems, *(problem for part in found + more + most for problem in part)]
    return replace(opened, train=train, val=val, test=test, problems=problems)


def names_file(labels: str | None) -> bool:
    """Whether --labels names a CSV file, and is no number."""
    return labels is not None and not labels.strip().isdecimal()


def same(images: str | None, other: str | None) -> bool:
    """Whether two names mean the same images."""
    return None not in (images, other) and Path(str(images)).resolve() == Path(str(other)).resolve()


def _labelled(images: Images, labels: str, seed: int) -> Images:
    from apercu.data.labels import hide_labels

    return hide_labels(images, labels, seed)


def _all_if_few(images: Images, least: int) -> Images:
    """All images to learn from, where the split would leave a class without one, or with fewer shots than it has; or
    where there are no classes and no more than a handful of masks."""
    import numpy as np

    whole = images.split("all")
    here, everywhere = (
        np.bincount(part.labels[part.labels >= 0], minlength=len(part.classes)) for part in (images.train, whole)
    )
    handful = not whole.classes and 0 < len(whole.masks) <= HANDFUL
    if not handful and (here >= np.minimum(everywhere, least)).all():
        return images
    note("these are few, so all of them are learnt from, whatever their split")
    return replace(images, train=whole, val=whole.subset([]), test=whole.subset([]))


def _count(images: Images, shots: int) -> str:
    """How many labels make `shots` for each class.

    Raises:
        ApercuError: a class has fewer.
    """
    import numpy as np

    train = images.train
    present, counts = np.unique(train.labels[train.labels >= 0], return_counts=True)
    if len(present) and not 1 <= shots <= counts.min():
        scarcest = train.classes[present[counts.argmin()]]
        raise ApercuError(f"--shots takes from 1 to {counts.min()} images of each class, for {scarcest} has no more")
    return str(shots * len(present))
