"""Probes on the frozen code: scikit-learn classifiers chosen by cross-validation on the labels given."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apercu.errors import ApercuError, FormatError
from apercu.tasks._calibration import NEVER

METHODS = ("linear", "svm", "mlp", "knn", "prototypes")
LARGE = 10_000
SLACK = 0.01  # that an answer may be another class altogether: five neighbours that agree are no proof
WIDTH = 0.15  # of a class, in mean squared distances between two prototypes

Array = NDArray[Any]
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Fit = Callable[[Array, Ints], Any]
More = Callable[[Ints, Any], tuple[Array, Ints]]
"""More to learn from, (codes, labels), given the rows that may be looked at and a probe that was fitted to them."""


@dataclass(frozen=True)
class Fitted:
    """A probe, its name, how it is fitted, and the cross-validated accuracy of every probe that was tried.

    `rows`: those that took part in cross-validation, and `logits`: what a probe that had not seen them said, (rows,
    classes); both are empty where classes have a single label each.
    """

    probe: Any
    method: str
    fit: Fit
    scores: dict[str, float]
    rows: Ints
    logits: Floats


def candidates(counts: Ints, seed: int, balance: bool = False) -> dict[str, Fit]:
    """The probes that so many labels in each class allow, (classes present,); most of them standardise the code.

    `balance`: errors weigh as if every class had as many labels, where a probe can be told so.
    """
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    count, smallest = int(counts.sum()), int(counts.min())
    stops = count > 1000 and smallest >= 10  # it holds back a tenth of every class
    weights = "balanced" if balance else None
    found = {
        "linear": LogisticRegression(C=0.1, max_iter=1000, class_weight=weights),
        "mlp": MLPClassifier((256,), alpha=1e-2, max_iter=300, early_stopping=stops, random_state=seed),
        "knn": KNeighborsClassifier(min(5, int(counts[counts > 1].min(initial=5)), count), weights="distance"),
    }
    if count <= LARGE and smallest >= 3:  # the kernel matrix grows with the square; calibration folds what folds leave
        svm = SVC(C=10.0, class_weight=weights, random_state=seed)
        found["svm"] = CalibratedClassifierCV(svm, ensemble=False, cv=3 if smallest >= 5 else 2)
    fits: dict[str, Fit] = {
        name: partial(_fit_anew, make_pipeline(StandardScaler(), probe)) for name, probe in found.items()
    }
    fits["prototypes"] = prototypes
    return {name: fits[name] for name in METHODS if name in fits}


def prototypes(x: Array, y: Ints) -> Any:  # noqa: ANN401
    """The nearest class mean, from as little as one image of each: p(k | z) ∝ exp(−‖z − μ_k‖² / s).

    s is a share of the mean squared distance between two means, which needs no second image of a class. Codes are
    taken as they are, not standardised. Snell, Swersky and Zemel, "Prototypical networks for few-shot learning" (2017).
    """
    from scipy.spatial.distance import pdist
    from sklearn.naive_bayes import GaussianNB

    classes = len(np.unique(y))
    probe = GaussianNB(priors=np.full(classes, 1 / classes)).fit(x.astype(np.float64), y)
    probe.var_[:] = max(WIDTH / 2 * float(pdist(probe.theta_, "sqeuclidean").mean()), 1e-12)
    return probe


def fit_probe(x: Array, y: Ints, classes: int, method: str, seed: int, balance: bool = False) -> Fitted:
    """Fit the probe `method`, or the best of all by cross-validated accuracy, to codes (n, K) and labels (n,).

    A class with a single label is always learnt from and never asked for; where fewer than two classes have more,
    nothing can be compared, and prototypes are taken for the best. `balance`: every class counts the same.

    Raises:
        ApercuError: fewer than two classes, or labels too few or too many for this method.
    """
    counts = np.bincount(y, minlength=classes)
    present = int((counts > 0).sum())
    if present < 2:
        raise ApercuError(f"a classifier needs labels of at least two classes and these have {present}; label more")
    compares = (counts > 1).sum() >= 2
    fits = candidates(counts[counts > 0], seed, balance)
    wanted = "prototypes" if method == "best" and not compares else method
    chosen = fits if wanted == "best" else {name: fit for name, fit in fits.items() if name == wanted}
    if not chosen:
        raise ApercuError(f"method {method} needs at least three labels in every class and at most {LARGE} in all")
    rows, answers = np.empty(0, np.int64), {name: np.empty((0, classes)) for name in chosen}
    if compares:
        # Choosing among probes needs fewer images than fitting the chosen one.
        rows = np.random.default_rng(seed).permutation(np.flatnonzero(counts[y] > 1))[:LARGE]
        answers = {name: out_of_fold(fit, x, y, rows, classes, seed) for name, fit in chosen.items()}
    scores = {name: _accuracy(logits, y[rows], balance) for name, logits in answers.items() if compares}
    best = max(scores, key=lambda name: scores[name]) if scores else next(iter(chosen))
    tried = scores if len(scores) > 1 else {}
    return Fitted(chosen[best](x, y), best, chosen[best], tried, rows, answers[best])


def out_of_fold(fit: Fit, x: Array, y: Ints, rows: Ints, classes: int, seed: int, more: More | None = None) -> Floats:
    """The logits of `rows` by probes that were fitted to the others, (rows, classes), in at most five parts."""
    from sklearn.model_selection import StratifiedKFold

    alone = np.flatnonzero(np.bincount(y)[y] == 1)
    parts = min(5, max(2, int(np.unique(y[rows], return_counts=True)[1].min())))
    logits = np.empty((len(rows), classes))
    with warnings.catch_warnings():  # of a class that `rows` hold once, though there is more of it
        warnings.filterwarnings("ignore", "The least populated class")
        folds = list(StratifiedKFold(parts, shuffle=True, random_state=seed).split(rows, y[rows]))
    for learnt, asked in folds:
        probe = fit_with(fit, x, y, np.concatenate([rows[learnt], alone]), more)
        logits[asked] = said(probe, x[rows[asked]], classes)
    return logits


def fit_with(fit: Fit, x: Array, y: Ints, rows: Ints, more: More | None) -> Any:  # noqa: ANN401
    """The probe fitted to these rows, and then again to `more` beside them."""
    probe = fit(x[rows], y[rows])
    if more is None:
        return probe
    codes, labels = more(rows, probe)
    return fit(np.concatenate([x[rows], codes]), np.concatenate([y[rows], labels]))


def said(probe: Any, x: Array, classes: int) -> Floats:  # noqa: ANN401
    """ln p(k | x), (B, classes): at least a trace for every class that the probe knows."""
    logits = np.full((len(x), classes), NEVER)
    logits[:, probe.classes_] = np.log((1 - SLACK) * probe.predict_proba(x) + SLACK / len(probe.classes_))
    return logits


def _fit_anew(probe: Any, x: Array, y: Ints) -> Any:  # noqa: ANN401
    from sklearn.base import clone
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return clone(probe).fit(x, y)


def _accuracy(logits: Floats, truth: Ints, balance: bool) -> float:
    right = logits.argmax(1) == truth
    if not balance:
        return float(right.mean())
    return float(np.mean([right[truth == k].mean() for k in np.unique(truth)]))


def dump(probe: object) -> bytes:
    """The probe as bytes that skops reads back without running code."""
    from skops.io import dumps

    return bytes(dumps(probe))


def restore(data: bytes) -> Any:  # noqa: ANN401
    """The probe of `dump`.

    Raises:
        FormatError: it holds types that a probe of ours does not.
    """
    from skops.io import get_untrusted_types, loads

    unlisted = get_untrusted_types(data=data)
    strange = [name for name in unlisted if not name.startswith("sklearn.")]  # scikit-learn's own private parts
    if strange:
        raise FormatError(f"the classifier beside the model holds foreign types ({strange[0]}); fit it again")
    return loads(data, trusted=unlisted)
