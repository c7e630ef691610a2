"""Measure a curve, one figure after the other; each is kept as soon as it is there and never measured again."""

from __future__ import annotations

import copy
import dataclasses
import json
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from apercu.api import Model
from apercu.checkpoint import write_atomically
from apercu.curve.methods import JOINT, METHODS, Bench
from apercu.data.images import fingerprint
from apercu.data.labels import hide_labels
from apercu.data.open import Images
from apercu.data.recalled import Recalled
from apercu.errors import ApercuError, FormatError
from apercu.presets import build, defaults
from apercu.study import Budget, Drive, TooLong, check_question, to_the_end
from apercu.training import Training

FILE, CODES = "curve.json", "codes"
PER_CLASS = (1, 2, 5, 10, 20, 50, 100)


class Key(NamedTuple):
    """Which figure: a method, labels per class, and the seed of their draw and of the network."""

    method: str
    per_class: int
    seed: int


@dataclass(frozen=True)
class Figure:
    """Accuracy on the test images, and how long it took in seconds."""

    method: str
    per_class: int
    labels: int
    seed: int
    accuracy: float
    seconds: float

    @property
    def key(self) -> Key:
        """Which figure it is."""
        return Key(self.method, self.per_class, self.seed)


class Curve:
    """The figures of one question, kept in `folder`.

    `settings` are those of `vae_cnn`; `training` says how it is trained, and the code without labels as well. Of codes
    that were kept, `made` by a model, what needs no pixels is measured, and nothing is trained but probes.

    Raises:
        ApercuError: images that a curve cannot be drawn of, or a folder that holds the answers to another question;
            codes without their model, or with how to train it.
    """

    def __init__(
        self,
        data: Images,
        folder: Path,
        *,
        settings: dict[str, Any] | None = None,
        training: Training | None = None,
        made: Model | None = None,
        overwrite: bool = False,
        drive: Drive = to_the_end,
    ) -> None:
        known = data.train.labels[data.train.labels >= 0]
        self.classes, self.most = len(np.unique(known)), len(known)
        if self.classes < 2:
            raise ApercuError(
                f"a curve needs labelled images of two classes or more to train on, and these have {self.classes}: "
                "put the images of each class into a folder of its own"
            )
        self.data = dataclasses.replace(data, test=data.test.subset(data.test.labels >= 0))
        if len(self.data.test) == 0:
            raise ApercuError("none of the test images is labelled, so nothing could be measured: label some of them")
        self.folder, self.drive = folder, drive
        self.settings, self.training = defaults(JOINT) | (settings or {}), training or Training()
        self.made: Model | None = None
        if not isinstance(data.train.pixels, Recalled):
            # It says what does not fit, before any work.
            build(JOINT, data.train.spec, len(data.train.classes), self.settings)
            how: dict[str, Any] = {
                "settings": self.settings,
                "training": {name: getattr(self.training, name) for name in ("epochs", "minutes", "batch")},
            }
        elif settings or training:
            raise ApercuError("of codes no model is trained, so nothing can be said of how; name the IMAGES for that")
        else:
            self.made = _maker(made, data)
            how = {"model": self.made.fingerprint}
        images = fingerprint([self.data.train, self.data.val, self.data.test])
        question = {"images": images, **how, "version of Apercu": version("apercu")}
        self.question = json.loads(json.dumps(question))  # as it is read back
        self.figures: dict[Key, Figure] = {}
        self.too_long: dict[str, float] = {}
        self.overwrite = overwrite
        if (folder / FILE).is_file() and not overwrite:
            self._load()

    def plan(
        self, per_class: Sequence[int] | None = None, seeds: int = 3, methods: Sequence[str] | None = None
    ) -> list[Key]:
        """All figures to measure, so ordered that the coarse picture comes first: seed by seed, cheap methods first.

        `per_class`: numbers of labels for each class; by default 1, 2, 5, 10, 20, 50, 100 as far as the labels go, and
        all that there are.

        Raises:
            ApercuError: more labels than there are, no such method, or no seeds.
        """
        if seeds < 1:
            raise ApercuError(f"{seeds} seeds measure nothing: ask for at least 1, better 3")
        strange = sorted(set(methods or ()) - set(METHODS))
        if strange:
            raise ApercuError(f"there is no method {strange[0]!r}; choose from: {', '.join(METHODS)}")
        blind = [name for name in methods or () if name in self.left_out]
        if blind:
            raise ApercuError(f"the method {blind[0]} needs the images themselves; name IMAGES instead of CODES")
        there = self.most // self.classes
        counts = sorted(set(per_class)) if per_class else usual_counts(there)
        if counts[0] < 1 or counts[-1] > there:
            wrong = counts[0] if counts[0] < 1 else counts[-1]
            raise ApercuError(
                f"{wrong} labels per class cannot be drawn from {self.most} labels of {self.classes} classes: "
                f"ask for 1 to {there}"
            )
        chosen = [name for name in METHODS if name not in self.left_out and (not methods or name in methods)]
        return [Key(name, count, seed) for seed in range(seeds) for name in chosen for count in counts]

    @property
    def left_out(self) -> list[str]:
        """The methods that need pixels, where there are codes alone."""
        return [name for name, method in METHODS.items() if method.pixels and self.made is not None]

    def missing(self, plan: Sequence[Key]) -> list[Key]:
        """The figures that are still to be measured."""
        return [key for key in plan if key not in self.figures]

    def run(self, plan: Sequence[Key], budget: Budget | None = None) -> Iterator[Figure]:
        """Measure what is missing until the budget is spent; methods that it does not suffice for are left out."""
        budget = budget or Budget()
        self.too_long = {}
        codes = self.folder / CODES
        bench = Bench(self.settings, self.training, codes, lambda run: self.drive(budget.watch(run)), self.made)
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.overwrite:
            (self.folder / FILE).unlink(missing_ok=True)
            shutil.rmtree(self.folder / CODES, ignore_errors=True)
            self.overwrite = False
        for key in self.missing(plan):
            if key.method in self.too_long:
                continue
            if budget.left <= 0:
                break
            try:
                figure = self._measure(key, bench)
            except TooLong as reason:
                self.too_long[key.method] = reason.seconds
                continue
            self.figures[key] = figure
            self._save()
            yield figure

    def _measure(self, key: Key, bench: Bench) -> Figure:
        labels = key.per_class * self.classes
        started = time.monotonic()
        answers = METHODS[key.method].answer(bench, hide_labels(self.data, labels, key.seed), key.seed)
        accuracy = float((answers == self.data.test.labels).mean())
        return Figure(key.method, key.per_class, labels, key.seed, accuracy, round(time.monotonic() - started, 1))

    def _save(self) -> None:
        content = {"question": self.question, "figures": [asdict(figure) for figure in self.figures.values()]}
        write_atomically(self.folder / FILE, json.dumps(content, indent=1).encode())

    def _load(self) -> None:
        path = self.folder / FILE
        try:
            content = json.loads(path.read_bytes())
            question, figures = dict(content["question"]), [Figure(**figure) for figure in content["figures"]]
        except (ValueError, KeyError, TypeError) as error:
            raise FormatError(f"{path} is damaged ({error}); start again with --overwrite") from error
        check_question(question, self.question, self.folder)
        self.figures = {figure.key: figure for figure in figures}


def _maker(model: Model | None, codes: Images) -> Model:
    """The model that made these codes; what is fitted to it is not kept."""
    if model is None:
        raise ApercuError("a curve of codes takes the model that made them; name it with --model MODEL")
    model.images(codes)
    model = copy.copy(model)
    model.folder = None
    return model


def usual_counts(there: int) -> list[int]:
    """1, 2, 5, … 100 labels per class as far as `there` are so many, and all of them where that is some more."""
    counts = [count for count in PER_CLASS if count <= there]
    return counts if there > PER_CLASS[-1] or there < 1.25 * counts[-1] else [*counts, there]
