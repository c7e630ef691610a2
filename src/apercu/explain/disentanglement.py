"""Whether a coordinate of the code stands for one thing that varies in the images, where such things are known.

    MIG   mean over factors v of (I(z₁; v) − I(z₂; v)) / H(v), z₁ and z₂ the coordinates that tell most of v
    DCI   from importances R (coordinates × factors) of forests that predict each factor from the code:
          disentanglement  Σ_j ρ_j (1 − H(R_j / Σ_k R_jk)), completeness  mean_k (1 − H(R_·k)),
          informativeness  accuracy, or R² of a factor that is a quantity, on codes that were held out

H of a coordinate's or factor's shares is taken to the base that makes it 1 where they are even; ρ_j is the share of
coordinate j in all importance.

Chen et al., "Isolating sources of disentanglement in variational autoencoders" (2018); Eastwood and Williams, "A
framework for the quantitative evaluation of disentangled representations" (2018).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS, TREES = 20, 100

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Factor:
    """Something that varies in the images: `values` (n,), classes 0, 1, … or, where it is a `quantity`, numbers."""

    values: NDArray[Any]
    quantity: bool

    @property
    def binned(self) -> Ints:
        """The values as classes: those of a quantity in bins that hold about as many images each."""
        if not self.quantity:
            return np.asarray(self.values, np.int64)
        return _ranked(np.asarray(self.values, np.float64))


def _ranked(values: Floats) -> Ints:
    edges = np.unique(np.quantile(values, np.linspace(0, 1, BINS + 1)[1:-1]))
    return np.searchsorted(edges, values, side="right").astype(np.int64)


def mutual_information(a: Ints, b: Ints) -> float:
    """I(a; b) = H(a) + H(b) − H(a, b) of classes (n,), nats."""
    both = np.zeros((int(a.max()) + 1, int(b.max()) + 1))
    np.add.at(both, (a, b), 1 / len(a))
    return _entropy(both.sum(1)) + _entropy(both.sum(0)) - _entropy(both.ravel())


def _entropy(p: Floats) -> float:
    p = p[p > 0]
    return float(-(p * np.log(p)).sum())


def gaps(codes: Floats, factors: Mapping[str, Factor]) -> dict[str, float]:
    """The mutual information gap of every factor, codes (n, D): 1 where one coordinate alone tells all of it."""
    binned = [_ranked(column) for column in codes.T]
    found = {}
    for name, factor in factors.items():
        classes = factor.binned
        told = sorted((mutual_information(column, classes) for column in binned), reverse=True)
        entropy = _entropy(np.bincount(classes) / len(classes))
        found[name] = (told[0] - (told[1] if len(told) > 1 else 0.0)) / max(entropy, 1e-12)
    return found


def turned(codes: Floats, seed: int) -> Floats:
    """The same codes in coordinates that were turned at random: as informative, and with no meaning of their own."""
    from scipy.stats import ortho_group

    if codes.shape[1] < 2:
        return codes
    spread: Floats = codes @ ortho_group.rvs(codes.shape[1], random_state=seed)
    return spread


def dci(codes: Floats, factors: Mapping[str, Factor], seed: int) -> dict[str, Any]:
    """Disentanglement, completeness and informativeness; the first is None where there is one factor only."""
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

    order = np.random.default_rng(seed).permutation(len(codes))
    learnt, asked = order[: len(order) // 2], order[len(order) // 2 :]
    importances, informativeness = [], {}
    for name, factor in factors.items():
        kind = RandomForestRegressor if factor.quantity else RandomForestClassifier
        forest = kind(TREES, max_features=1.0, random_state=seed).fit(codes[learnt], factor.values[learnt])
        importances.append(forest.feature_importances_)
        informativeness[name] = float(forest.score(codes[asked], factor.values[asked]))
    r = np.stack(importances, 1)
    weight = r.sum(1) / max(r.sum(), 1e-12)
    return {
        "disentanglement": float((weight * _concentration(r)).sum()) if len(factors) > 1 else None,
        "completeness": float(_concentration(r.T).mean()) if r.shape[0] > 1 else None,
        "informativeness": informativeness,
    }


def _concentration(shares: Floats) -> Floats:
    """1 − H(row) / ln columns, (R, K) → (R,): 0 where a row is even, 1 where one column has all of it."""
    p = shares / np.maximum(shares.sum(1, keepdims=True), 1e-12)
    return np.array([1 - _entropy(row) / np.log(shares.shape[1]) for row in p])
