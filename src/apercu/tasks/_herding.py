"""Which few of many points speak for all: coverage weighted by uncertainty, built up greedily.

    C(S) = Σ_x u(x) · max_{s ∈ S ∪ L} k(x, s),   k(x, s) = exp(−‖x − s‖² / r²)

L is what is labelled already and S what is chosen. A point adds much where many others are near it (typicality), where
these are unsure (uncertainty), and where nothing that was taken speaks for them yet (diversity). C is submodular, so
that taking the best point again and again reaches at least 1 − 1/e of the best there is (Nemhauser, Wolsey and Fisher,
1978). Bae, Noh and Sutherland, "Generalized coverage for more robust low-budget active learning" (2024); Bae, Oliveira
and Sutherland, "Uncertainty herding: one active learning method for all label budgets" (2025).

The radius is ours: with m labels in all, each is to speak for one m-th of the points, so r is the typical distance to
the neighbour that far away. It shrinks as labels are added, and no constant of the code space enters.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FEWEST = 5  # neighbours that the radius reaches at least
LEAST = 1e-6  # of all there is to gain: what a copy adds by rounding
AT_ONCE = 32

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Choice:
    """What was chosen, and why.

    `rows`: (n,), the best first; `stands_for`: (n,), the share of the points that each speaks for best; `typicality`:
    (n,), the share of the points that have less near them.
    """

    rows: Ints
    stands_for: NDArray[np.float64]
    typicality: NDArray[np.float64]


def herd(points: Floats, labelled: Floats, uncertainty: Floats, n: int, alike: Ints) -> Choice:
    """Choose `n` points, or fewer where all others are copies of what is taken; memory grows as M².

    points: (M, K); labelled: (L, K); uncertainty: (M,), positive; alike: (P, 2), pairs of points of which only one may
    be chosen.
    """
    from scipy.stats import rankdata
    from sklearn.metrics import pairwise_distances_argmin_min
    from sklearn.metrics.pairwise import euclidean_distances

    distances = euclidean_distances(points, squared=True)
    radius = _radius(distances, len(labelled) + n)
    near: Floats = np.exp(distances / -radius, out=distances)
    before = np.zeros(len(points), np.float32)
    if len(labelled):
        closest = pairwise_distances_argmin_min(points, labelled)[1]
        before = np.exp(np.square(closest, dtype=np.float32) / -radius)

    chosen: list[int] = []
    covered, gain = before, np.maximum(near - before, 0) @ uncertainty
    while len(chosen) < n:
        # Gains only shrink as more is covered: an old one is an upper bound, and few need to be computed anew.
        old = np.isfinite(gain) if chosen else np.zeros(len(points), np.bool_)
        while old[best := int(gain.argmax())]:
            top = np.argpartition(-gain, min(AT_ONCE, len(gain) - 1))[:AT_ONCE]
            top = np.append(top[old[top]], best)
            gain[top] = np.maximum(near[top] - covered, 0) @ uncertainty
            old[top] = False
        if gain[best] <= LEAST * uncertainty.sum():
            break
        chosen.append(best)
        covered = np.maximum(covered, near[best])
        gain[[best, *alike[(alike == best).any(axis=1)].ravel()]] = -np.inf

    speaker = np.vstack([before, near[chosen]]).argmax(axis=0)
    return Choice(
        np.array(chosen, np.int64),
        np.bincount(speaker, minlength=len(chosen) + 1)[1:] / len(points),
        (rankdata(near.mean(axis=1), "min")[chosen] - 1) / len(points),
    )


def _radius(distances: Floats, labels: int) -> np.float32:
    """r², the median squared distance to the neighbour up to which one of `labels` points speaks: (M, M) → ()."""
    some, count = distances[:500], len(distances)
    neighbour = min(max(count // labels, FEWEST), count) - 1
    reach = np.partition(some, neighbour, axis=1)[:, neighbour]
    # Where most points are copies of others it is 0, and only copies are near; where all are, any radius will do.
    return np.float32(max(np.median(reach), 1e-6 * some.mean()) or 1)
