"""Probes on the frozen code: scikit-learn classifiers chosen by cross-validation on the labels given."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apercu.errors import ApercuError, FormatError

METHODS = ("linear", "svm", "mlp", "knn")
LARGE = 10_000


def candidates(count: int, smallest: int, seed: int) -> dict[str, Any]:
    """The probes that `count` labels allow, `smallest` of them in the rarest class, each after standardisation."""
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    found = {
        "linear": LogisticRegression(C=0.1, max_iter=1000),
        "mlp": MLPClassifier((256,), alpha=1e-2, max_iter=300, early_stopping=count > 1000, random_state=seed),
        "knn": KNeighborsClassifier(min(5, smallest), weights="distance"),
    }
    if count <= LARGE and smallest >= 3:  # the kernel matrix grows with the square; calibration folds what folds leave
        svm = SVC(C=10.0, random_state=seed)
        found["svm"] = CalibratedClassifierCV(svm, ensemble=False, cv=3 if smallest >= 5 else 2)
    return {name: make_pipeline(StandardScaler(), found[name]) for name in METHODS if name in found}


def fit_probe(x: NDArray[Any], y: NDArray[np.int64], method: str, seed: int) -> tuple[Any, str, dict[str, float]]:
    """Fit the probe `method`, or the best of all by cross-validated accuracy: (probe, its name, the scores).

    Raises:
        ApercuError: fewer than two classes, or labels too few for this method.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.model_selection import StratifiedKFold, cross_val_score

    _, counts = np.unique(y, return_counts=True)
    if len(counts) < 2:
        raise ApercuError(f"a classifier needs labels of at least two classes and these have {len(counts)}; label more")
    smallest = int(counts.min())
    probes = candidates(len(y), smallest, seed)
    chosen = probes if method == "best" else {name: probe for name, probe in probes.items() if name == method}
    if not chosen:
        raise ApercuError(f"method {method} needs at least two labels in every class and at most {LARGE} in all")
    scores: dict[str, float] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        if len(chosen) > 1 and smallest >= 2:
            # Choosing among probes needs fewer images than fitting the chosen one.
            part = np.random.default_rng(seed).permutation(len(y))[:LARGE]
            folds = StratifiedKFold(min(5, smallest), shuffle=True, random_state=seed)
            scores = {
                name: float(cross_val_score(probe, x[part], y[part], cv=folds).mean()) for name, probe in chosen.items()
            }
        best = max(scores, key=lambda name: scores[name]) if scores else next(iter(chosen))
        return chosen[best].fit(x, y), best, scores


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
