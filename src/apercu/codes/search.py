"""Nearest neighbours among vectors, exactly, and groups of vectors that are almost the same."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

BLOCK = 1 << 24
"""Distances that are in memory at a time, at most."""
SPARE = 8
LUCK = 1e-3
"""The share of rows that chance may put beside another within the distance of near duplicates."""
INNER, OUTER, DENSEST = 5, 10, 0.05
"""Neighbours that tell how many dimensions the rows fill, and the share of rows that are taken for the densest."""
FEWEST, SAMPLE = 40, 1000


class Compared:
    """Vectors, (N, K), each of which is compared with a query.

    Candidates come from ‖v‖² − 2 q·v, a product of matrices, about the centre of all; the differences of the best
    decide, as the product loses digits where vectors are close.
    """

    def __init__(self, vectors: Floats) -> None:
        self.centre = vectors.mean(0, dtype=np.float64).astype(np.float32)
        self.vectors = vectors - self.centre
        self.lengths = np.einsum("nk,nk->n", self.vectors, self.vectors)

    def __len__(self) -> int:
        return len(self.vectors)

    def nearest(self, queries: Floats, k: int) -> tuple[Ints, Floats]:
        """The k nearest rows to each query, (Q, K), and their squared distances: both (Q, k), nearest first."""
        k, few = min(k, len(self)), min(k + SPARE, len(self))
        found, squared = np.empty((len(queries), k), np.int64), np.empty((len(queries), k), np.float32)
        step = max(1, BLOCK // len(self))
        for start in range(0, len(queries), step):
            here = slice(start, start + step)
            asked = queries[here] - self.centre
            candidates = np.argpartition(self.lengths - 2 * asked @ self.vectors.T, few - 1, axis=1)[:, :few]
            candidates.sort(axis=1)  # of two that are equally near, the earlier row
            exact = np.square(self.vectors[candidates] - asked[:, None]).sum(2)
            order = np.argsort(exact, axis=1, kind="stable")[:, :k]
            found[here] = np.take_along_axis(candidates, order, 1)
            squared[here] = np.take_along_axis(exact, order, 1)
        return found, squared


def beyond_chance(vectors: Floats) -> float | None:
    """The distance t within which chance puts another row beside one of a thousand; None where rows are too few.

    Rows that have nothing to do with each other lie evenly around one of them in the m dimensions that all fill, so
    that k · (t / r_k)ᵐ of them lie within t, where r_k is the distance to the k-th neighbour. The mean of ln(r_k / r_j)
    is Σ_{i=j}^{k−1} 1/i / m, which tells m (Levina and Bickel, "Maximum likelihood estimation of intrinsic dimension",
    2004), here from outer neighbours, which are no copies. r_k is that of the densest twentieth of a sample.
    """
    different = np.unique(vectors, axis=0)
    if len(different) < FEWEST:
        return None
    some = different[np.sort(np.random.default_rng(0).permutation(len(different))[:SAMPLE])]
    squared = Compared(different).nearest(some, OUTER + 1)[1].astype(np.float64)  # the first is itself
    inner, outer = np.sqrt(squared[:, INNER]), np.sqrt(squared[:, OUTER])
    growth = max(float(np.median(np.log(outer / inner))), 1e-6)
    dimension = sum(1 / i for i in range(INNER, OUTER)) / growth
    return float(np.quantile(outer, DENSEST) * (LUCK / OUTER) ** (1 / dimension))


def groups(vectors: Floats, reach: float) -> list[Ints]:
    """Rows of (N, K) that are chained by squared distances of at most `reach`; groups of two or more, largest first."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    different, copy_of = np.unique(vectors, axis=0, return_inverse=True)
    copy_of = copy_of.reshape(-1)
    count = len(different)
    compared = Compared(different)
    vectors, lengths = compared.vectors, compared.lengths
    group = np.arange(count)
    step = max(1, BLOCK // max(1, count))
    for start in range(0, count, step):
        here = vectors[start : start + step]
        squared = lengths[start : start + step, None] - 2 * here @ vectors[start:].T + lengths[start:]
        left, right = np.nonzero(squared <= reach)
        # Every row is joined to the first of its group so far, and to its neighbours in this block.
        edges = np.concatenate([[np.arange(count), group], [left + start, right + start]], axis=1)
        links: Any = coo_matrix((np.ones(edges.shape[1], np.int8), edges), shape=(count, count))
        label = connected_components(links, directed=False)[1]
        group = np.unique(label, return_index=True)[1][label]
    members = group[copy_of]
    order = np.argsort(members, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(members[order])) + 1)
    return sorted((part for part in parts if len(part) > 1), key=lambda part: (-len(part), part[0]))
