"""Recognise: the class of every image, its probability, what else it may be, and whether to trust the answer.

By the joint head of the model, by a probe on its frozen code (linear, SVM, MLP, k-nearest neighbours or the nearest
class mean, chosen by cross-validation), or by fine-tuning the encoder on the labels. Labels that are held out say what
its probabilities mean.

Example: apercu classify MODEL IMAGES -o predictions --learn LABELLED -s method=best
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from apercu import metrics
from apercu.api import Model
from apercu.checkpoint import write_atomically
from apercu.data.images import ImageSet
from apercu.data.recalled import priced
from apercu.errors import ApercuError
from apercu.model import Autoencoder
from apercu.tasks import _answers, _finetune, _generated, _kept, _neighbours, _probe
from apercu.tasks._beside import Beside
from apercu.tasks._calibration import (
    Calibration,
    Evidence,
    Promise,
    calibration_error,
    digests,
    logits_of,
    promise,
    tempered,
)
from apercu.tasks._novelty import Known, separation
from apercu.tasks.base import Result, Task

__all__ = ["Classify"]

Method = Literal["auto", "head", "best", "linear", "svm", "mlp", "knn", "prototypes", "neighbours", "finetune"]
Floats = NDArray[np.float64]

NOT_PRICED = "nothing is called novel: that takes the price of each image, which an archive does not hold"
NOTHING_KNOWN = "nothing is called novel: there were too few known images to compare with when it was fitted"
ENOUGH, MOST = 100, 10_000  # held-out labels to be content with, and to take


class Classify(Task):
    """p(class | code), and how far to trust it.

    `method`: "head" is the joint one, "best" the best probe, "prototypes" the nearest class mean, "neighbours" spreads
    the labels to unlabelled images and asks the nearest, "finetune" trains the encoder further with a new head; "auto"
    takes what was fitted last, else the joint head. `epochs`: of fine-tuning.
    `coverage`: how often the set of an image holds its class; `error`: the rate of wrong answers from which on it
    abstains; `novel`: the share of known images that may be called novel. `generated`: images of each class to draw and
    learn from, if they help; `balance`: a probe's classes count the same, however few the labels of some.
    """

    def __init__(
        self,
        model: Model,
        *,
        method: Method = "auto",
        epochs: int = 30,
        seed: int = 0,
        coverage: float = 0.9,
        error: float = 0.05,
        novel: float = 0.01,
        generated: int = 0,
        balance: bool = False,
    ) -> None:
        super().__init__(model)
        for name, share in {"coverage": coverage, "error": error, "novel": novel}.items():
            if not 0 < share < 1:
                raise ApercuError(f"{name} is a share of all images, between 0 and 1, and not {share:g}")
        if generated < 0:
            raise ApercuError(f"generated is a number of images for each class, and not {generated}")
        self.method, self.epochs, self.seed = method, epochs, seed
        self.coverage, self.error, self.novel = coverage, error, novel
        self.generated, self.balance = generated, balance
        self.fitted: Any = None
        self._beside = Beside(model)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names that answers are given in."""
        return self.model.classes if self._by_head else tuple(self._beside.about.get("classes", self.model.classes))

    @property
    def _by_head(self) -> bool:
        return self.method == "head" or (self.method == "auto" and "method" not in self._beside.about)

    def fit(self, images: ImageSet, held_out: ImageSet | None = None) -> Result:
        """Fit a probe on the labelled images, or fine-tune the encoder; `calibrate` it, and keep it beside the model.

        By the method "head" nothing is fitted, and the joint head is calibrated.

        Raises:
            ApercuError: labels of fewer than two classes; or for the joint head, none that are held out.
        """
        held_out = images.subset([]) if held_out is None else held_out
        if self.method == "head":
            if not (self._known(held_out) >= 0).any():
                raise ApercuError(
                    "the joint head was trained with the model, and calibrating it needs labelled validation images "
                    "that it did not learn from; or choose another method to fit, such as best"
                )
            return self.calibrate(images, held_out)
        labelled = images.subset(np.flatnonzero(images.labels >= 0))
        if self.method == "finetune":
            result, out_of_fold = self._train_further(labelled), None
            file, data = "safetensors", _finetune.dump(self.fitted)
        elif self.method == "neighbours":
            result, out_of_fold = self._spread(images)
            file, data = "safetensors", self.fitted.dump()
        else:
            result, out_of_fold = self._fit_probe(labelled)
            file, data = "skops", _probe.dump(self.fitted)
        result |= {"labels": len(labelled), "classes": list(images.classes)}
        about = self._beside.about
        self.model.recipe.tasks["classify"] = result | {k: about[k] for k in ("head", "novelty") if k in about}
        self._beside.write(file, data)
        return self._calibrate(images, held_out, out_of_fold)

    def calibrate(self, learnt: ImageSet, held_out: ImageSet) -> Result:
        """Measure the classifier on labels that are held out, and keep what makes its probabilities mean something.

        All of the images, labelled or not, tell what is known: those that were learnt from, and those held out.
        """
        return self._calibrate(learnt, held_out, None)

    def probabilities(self, images: ImageSet) -> Floats:
        """p(class | image), (B, classes), at the temperature that held-out labels asked for.

        Raises:
            ApercuError: nothing was fitted and the model has no head.
        """
        return tempered(self._logits(images), self._promise().temperature)

    def __call__(self, images: ImageSet | None, out: Path | None = None) -> Result:
        """For every image its label and probability, the set of classes that it may be, whether the answer abstains,
        its novelty (the share of known images that are less unusual) and whether it is novel.

        With `out`, `predictions.csv` with the same and the probability of every class.
        """
        if images is None or len(images) == 0:
            raise ApercuError("there are no images here to classify")
        promised, known = self._promise(), self._find_known(images)
        p = tempered(self._logits(images), promised.temperature)
        p_known = None if known is None else known.p_values(self.model, images)
        rows = _answers.rows(images.ids, self.classes, p, promised, p_known, self.novel)
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
            write_atomically(out / "predictions.csv", _answers.table(rows, self.classes, p).encode())
        notes = [*promised.notes, *(self._unknown(images) if known is None else known.notes(self.novel))]
        about = {"calibrated": self._beside.about.get(self._calibrated), "notes": notes}
        return {"n": len(rows), "classes": list(self.classes), **about, "predictions": rows}

    def evaluate(self, images: ImageSet) -> Result:
        """Accuracy, the same per class, confusion and AUROC, over the images whose label is known.

        The trust in its answers is measured on those of them that it was not calibrated with. "novel": the share of
        images of known classes that are called novel; "novelty_auroc": how well novelty tells them from images whose
        label is none of the classes, where there are such.
        """
        truth = self._known(images)
        labelled = images.subset(np.flatnonzero(truth >= 0))
        if len(labelled) == 0:
            raise ApercuError("none of these images has a label that the model knows; name labelled images")
        strange = images.subset(np.flatnonzero((truth < 0) & (images.labels >= 0)))
        truth, logits, promised = truth[truth >= 0], self._logits(labelled), self._promise()
        p, before = tempered(logits, promised.temperature), tempered(logits, 1)
        fresh = ~np.isin(digests(labelled), promised.seen)
        result = metrics.classification(truth, p.argmax(1), self.classes) | {"auroc": metrics.auroc(p, truth)}
        result |= promised.measured(p[fresh], truth[fresh])
        result["ece_before"] = calibration_error(before[fresh], truth[fresh])
        known = self._find_known(images)
        result["novel"] = result["novelty_auroc"] = None
        if known is not None:
            p_known = known.p_values(self.model, labelled)
            result["novel"] = float((p_known <= self.novel).mean())
            if len(strange):
                result["novelty_auroc"] = separation(p_known, known.p_values(self.model, strange))
        return result

    @property
    def classifier(self) -> Any:  # noqa: ANN401
        """What answers: a network with a label head, or a probe of scikit-learn on the code of the model.

        Raises:
            ApercuError: nothing was fitted and the model has no head.
        """
        if self._by_head and "label" in self.model.network.heads:
            return self.model.network
        about = self._beside.about
        if self._by_head or self.method not in ("auto", "best", about.get("method")):
            raise ApercuError(
                "this model has no classifier of that kind yet; fit one on labelled images with --learn IMAGES, "
                "or train with --preset vae_cnn"
            )
        return self._restore(about["method"])

    @property
    def temperature(self) -> float:
        """What the logits of the classifier are divided by, 1 where nothing has calibrated it."""
        return self._promise().temperature

    def _logits(self, images: ImageSet) -> Floats:
        """ln p(class | image) of the classifier as it was fitted, (B, classes)."""
        fitted = self.classifier
        if fitted is self.model.network:
            return logits_of(self.model.probabilities(images))
        if isinstance(fitted, Autoencoder):
            tuned = Model(fitted, self.model.recipe, None, self.model.device)
            return logits_of(tuned.probabilities(images))
        if isinstance(fitted, _neighbours.Neighbours):
            return fitted.logits(self.model, images)
        return _probe.said(fitted, self.model.features(images), len(self.classes))

    @property
    def _calibrated(self) -> str:
        """The name that the calibration of the classifier that answers is kept by."""
        return "head" if self._by_head else "calibration"

    def _calibrate(self, learnt: ImageSet, held_out: ImageSet, evidence: Evidence | None) -> Result:
        """By the labels that are held out, or where they are few, by the `evidence` that there is besides."""
        on = "labels out of fold"
        if "label" in self.model.network.heads:
            on += ", of codes that had learnt from labels"
        truth = self._known(held_out)
        chosen = np.random.default_rng(self.seed).permutation(np.flatnonzero(truth >= 0))[:MOST]
        if len(chosen) >= min(ENOUGH, len(evidence) if evidence is not None and len(evidence) else 1):
            asked = held_out.subset(chosen)
            evidence, on = Evidence(self._logits(asked), truth[chosen], digests(asked)), "held-out labels"
        if evidence is not None and len(evidence):
            found = evidence.calibration()
            words = {"on": on, "n": len(evidence), "temperature": found.temperature} | evidence.errors()
            self._beside.keep(self._calibrated, found.arrays(), words)
        known, on = Known.of(self.model, learnt, held_out, self.seed)
        if known is not None:
            self._beside.keep("novelty", known.arrays(), {"on": on, "n": len(known.prices)})
        return self._beside.about

    def _promise(self) -> Promise:
        arrays = self._beside.find(self._calibrated)
        if arrays is None:
            return promise(None, self.coverage, self.error)
        calibration = Calibration(self._beside.about[self._calibrated]["temperature"], **arrays)
        return promise(calibration, self.coverage, self.error)

    def _find_known(self, images: ImageSet) -> Known | None:
        """What these images can be compared with, if their prices are known."""
        arrays = self._beside.find("novelty")
        return Known(**arrays) if arrays is not None and priced(images.pixels) else None

    def _unknown(self, images: ImageSet) -> list[str]:
        return [NOTHING_KNOWN if priced(images.pixels) else NOT_PRICED]

    def _known(self, images: ImageSet) -> NDArray[np.int64]:
        """The images' labels as numbers of this task's classes, −1 where unknown: folders may list them otherwise."""
        number = {name: i for i, name in enumerate(self.classes)}
        table = np.array([number.get(name, -1) for name in images.classes] + [-1], dtype=np.int64)
        return table[images.labels]

    def _fit_probe(self, labelled: ImageSet) -> tuple[Result, Evidence]:
        method = "best" if self.method == "auto" else self.method
        x = self.model.features(labelled) if len(labelled) else np.empty((0, 1), np.float32)
        found = _probe.fit_probe(x, labelled.labels, len(labelled.classes), method, self.seed, self.balance)
        result: Result = {"method": found.method, "cross_validation": found.scores}
        if self.generated:
            found, result["generated"] = _generated.enrich(self.model, labelled, x, found, self.generated, self.seed)
        self.fitted = found.probe
        asked = labelled.subset(found.rows)
        return result, Evidence(found.logits, asked.labels, digests(asked))

    def _spread(self, images: ImageSet) -> tuple[Result, Evidence]:
        self.fitted, known, logits = _neighbours.fit_neighbours(self.model, images, self.seed)
        result: Result = {"method": "neighbours", "images": len(self.fitted.points)}
        asked = images.subset(known)
        return result, Evidence(logits, asked.labels, digests(asked))

    def _train_further(self, labelled: ImageSet) -> Result:
        if len(np.unique(labelled.labels)) < 2:
            raise ApercuError("fine-tuning needs labels of at least two classes; label more images")
        self.fitted = _finetune.finetune(self.model, labelled, self.epochs, self.seed)
        return {"method": "finetune", "epochs": self.epochs}

    def _restore(self, method: str) -> Any:  # noqa: ANN401
        if self.fitted is None:
            self.fitted = _kept.restore(self.model, method, len(self.classes))
        return self.fitted
