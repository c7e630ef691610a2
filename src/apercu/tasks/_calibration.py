"""What a classifier's answers to held-out labelled images say of its probabilities.

    temperature   p_T(k) ∝ p(k)^(1/T), T minimising Σ −ln p_T(truth)          Guo et al. (2017)
    sets          {k : 1 − p_T(k) ≤ q}, q the ⌈(n + 1)·coverage⌉-th smallest
                  of the n held-out 1 − p_T(truth)                            Sadinle, Lei and Wasserman (2019)
    abstention    below the smallest of twenty probabilities above which the
                  held-out error rate is small enough with 95 % confidence    Clopper and Pearson (1934)

The sets hold the truth of a new image with the probability `coverage`, if it is drawn as the held-out ones were and
these were not learnt from; no others of that coverage are smaller on average. Some are empty where more answers than
`coverage` are right anyway.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apercu import metrics
from apercu.data.images import ImageSet

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

NEVER = math.log(1e-30)  # the logit of a class that a classifier does not know
PRIOR = 2.0  # of the temperature, Normal(0, ½) on its logarithm, so that a handful of labels cannot make it extreme
THRESHOLDS, DOUBT = 20, 0.05


def logits_of(p: NDArray[Any]) -> Floats:
    """ln p, (B, K), of probabilities that may have vanished."""
    logits: Floats = np.log(np.maximum(p.astype(np.float64), math.exp(NEVER)))
    return logits


def tempered(logits: Floats, temperature: float) -> Floats:
    """p ∝ exp(logit / T), (B, K)."""
    from scipy.special import softmax

    p: Floats = softmax(logits / temperature, axis=1)
    return p


def fit_temperature(logits: Floats, truth: Ints) -> float:
    """The T that makes the truth most likely: logits (n, K), truth (n,).

    Images of classes that the classifier does not know are left out: no temperature makes it name them.
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    known = (logits.max(0, initial=NEVER) > NEVER)[truth]
    logits, rows, truth = logits[known], np.arange(known.sum()), truth[known]

    def price(log_temperature: float) -> float:
        answers = log_softmax(logits / math.exp(log_temperature), axis=1)
        return float(PRIOR * log_temperature**2 - answers[rows, truth].sum())

    return math.exp(minimize_scalar(price, bounds=(-3, 3), method="bounded").x)


def calibration_error(p: Floats, truth: Ints) -> float | None:
    """Of the most probable classes, p (B, K) and truth (B,)."""
    return metrics.calibration_error(p.max(1), p.argmax(1) == truth)


def digests(images: ImageSet) -> Ints:
    """A number for each image that copies of it share, (B,)."""
    numbers: Ints = np.ascontiguousarray(images.hashes[:, :8]).view(np.int64)[:, 0]
    return numbers


@dataclass(frozen=True)
class Calibration:
    """What is kept of n held-out answers.

    `scores`: 1 − p(truth), (n,); `confidence`: the probability of the answer, (n,); `right`: whether it was the truth,
    (n,) bool; `seen`: digests of these images, (n,), so that nothing is measured on them again.
    """

    temperature: float
    scores: Floats
    confidence: Floats
    right: NDArray[np.bool_]
    seen: Ints

    def cut(self, coverage: float) -> float | None:
        """The largest score in a set; None where there are too few labels for this coverage."""
        rank = math.ceil((len(self.scores) + 1) * coverage - 1e-9)
        return float(np.sort(self.scores)[rank - 1]) if rank <= len(self.scores) else None

    def threshold(self, error: float) -> float | None:
        """The probability from which on answers are wrong at most at this rate; None where that cannot be shown.

        The doubt of 5 % is shared by all thresholds that are tried, so that choosing among them costs nothing.
        """
        from scipy.stats import beta

        found = None
        for share in np.arange(1, THRESHOLDS + 1) / THRESHOLDS:
            least = float(np.quantile(self.confidence, 1 - share, method="lower"))
            answered = self.confidence >= least
            count, wrong = int(answered.sum()), int((answered & ~self.right).sum())
            if wrong < count and beta.ppf(1 - DOUBT / THRESHOLDS, wrong + 1, count - wrong) <= error:
                found = least
        return found

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All but the temperature."""
        return {"scores": self.scores, "confidence": self.confidence, "right": self.right, "seen": self.seen}


@dataclass(frozen=True)
class Evidence:
    """Logits (n, K) of images that the classifier did not learn from, their classes (n,) and digests (n,)."""

    logits: Floats
    truth: Ints
    seen: Ints

    def __len__(self) -> int:
        return len(self.truth)

    def calibration(self) -> Calibration:
        """The temperature, and what sets and abstention need."""
        temperature = fit_temperature(self.logits, self.truth)
        p = tempered(self.logits, temperature)
        scores = 1 - p[np.arange(len(self)), self.truth]
        return Calibration(temperature, scores, p.max(1), p.argmax(1) == self.truth, self.seen)

    def errors(self) -> dict[str, float | None]:
        """The expected calibration error before, and after as fitted to each half and measured on the other."""
        half = np.arange(len(self)) % 2 == 0
        after = np.empty_like(self.logits)
        for part in (half, ~half):
            after[~part] = tempered(self.logits[~part], fit_temperature(self.logits[part], self.truth[part]))
        return {
            "ece_before": calibration_error(tempered(self.logits, 1), self.truth),
            "ece": calibration_error(after, self.truth),
        }


@dataclass(frozen=True)
class Promise:
    """What can be said of new answers: `cut` bounds the scores in a set, answers below `least` abstain.

    None means that nothing can be promised: sets hold all classes, and every answer abstains.
    """

    temperature: float
    cut: float | None
    least: float | None
    seen: Ints
    notes: tuple[str, ...]

    def sets(self, p: Floats) -> NDArray[np.bool_]:
        """Which classes are in the set of each image, (B, K)."""
        members: NDArray[np.bool_] = np.ones(p.shape, bool) if self.cut is None else 1 - p <= self.cut
        return members

    def abstains(self, p: Floats) -> NDArray[np.bool_]:
        """Which answers are too unsure, (B,)."""
        unsure: NDArray[np.bool_] = np.ones(len(p), bool) if self.least is None else p.max(1) < self.least
        return unsure

    def measured(self, p: Floats, truth: Ints) -> dict[str, float | None]:
        """How it is kept for images whose class is known, p (B, K) and truth (B,); None where there are none."""
        if len(truth) == 0:
            return dict.fromkeys(("ece", "coverage", "set_size", "abstained", "accuracy_answered"))
        sets, answered = self.sets(p), ~self.abstains(p)
        right = (p.argmax(1) == truth)[answered]
        return {
            "ece": calibration_error(p, truth),
            "coverage": float(sets[np.arange(len(truth)), truth].mean()),
            "set_size": float(sets.sum(1).mean()),
            "abstained": float(1 - answered.mean()),
            "accuracy_answered": float(right.mean()) if len(right) else None,
        }


def promise(calibration: Calibration | None, coverage: float, error: float) -> Promise:
    """What these held-out answers, if there are any, allow to promise at this coverage and this rate of errors."""
    if calibration is None:
        note = (
            "nothing is known of how far to trust these probabilities, so every set holds all classes and every answer "
            "abstains: calibrate with labelled images that the model did not learn from, by --learn LABELLED"
        )
        return Promise(1.0, None, None, np.empty(0, np.int64), (note,))
    count, notes = len(calibration.scores), []
    cut, least = calibration.cut(coverage), calibration.threshold(error)
    if cut is None:
        needed = math.ceil(coverage / (1 - coverage) - 1e-9)
        notes.append(
            f"sets that hold the class in {coverage:.4g} of all cases need {needed} held-out labels and there are "
            f"{count}, so every set holds all classes"
        )
    if least is None:
        notes.append(
            f"{count} held-out labels do not show that any answers are wrong in at most {error:.4g} of all cases, so "
            "all abstain: allow more errors, or label more"
        )
    return Promise(calibration.temperature, cut, least, calibration.seen, tuple(notes))
