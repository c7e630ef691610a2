"""Two-dimensional maps of codes: principal components, and one that keeps neighbours together.

PCA shows the directions in which codes vary most; t-SNE (van der Maaten and Hinton, 2008) or, where it is installed,
PaCMAP (Wang et al., 2021) shows which images are close to each other, while its distances between groups mean little.
"""

from __future__ import annotations

import importlib.util
import logging

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
RANK = 50
FEWEST = 5
ENOUGH_FOR_PACMAP = 500


def maps(features: NDArray[np.float32]) -> dict[str, Array]:
    """The maps of these features (N, K) by name, each (N, 2) in [0, 1]; none where they are too few or all the same."""
    x = features.astype(np.float64)
    if len(x) < FEWEST or not np.ptp(x, axis=0).max() > 1e-9:
        return {}
    if x.shape[1] == 2:
        return {"the code itself": in_unit_square(x)}
    principal = components(x, min(RANK, len(x) - 1))
    found = {"PCA": in_unit_square(principal[:, :2])}
    if x.shape[1] > 2:
        name, placed = neighbours_kept(principal)
        found[name] = in_unit_square(placed)
    return found


def components(x: Array, rank: int) -> Array:
    """Coordinates (N, ≥ 2) along the first principal components, whose signs are fixed: (N, K) → (N, min(rank, K))."""
    left, scale, right = np.linalg.svd(x - x.mean(0), full_matrices=False)
    signs = np.sign(right[np.arange(len(right)), np.abs(right).argmax(1)])
    y: Array = (left * (scale * signs))[:, :rank]
    return y if y.shape[1] > 1 else np.column_stack([y, np.zeros(len(y))])


def neighbours_kept(x: Array) -> tuple[str, Array]:
    """The name of the method, and the images where it puts them: (N, K) → (N, 2)."""
    if len(x) >= ENOUGH_FOR_PACMAP and importlib.util.find_spec("pacmap"):
        return "PaCMAP", _pacmap(x)
    return "t-SNE", _tsne(x)


def _tsne(x: Array) -> Array:
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    method = TSNE(2, perplexity=min(30.0, (len(x) - 1) / 3), init="pca", max_iter=500, random_state=0)
    with threadpool_limits(1):  # its threads wait for each other actively: on a busy machine more are ten times slower
        return np.asarray(method.fit_transform(x.astype(np.float32)), np.float64)


def _pacmap(x: Array) -> Array:
    import numba
    import pacmap

    logging.getLogger("pacmap").setLevel(logging.ERROR)  # it warns that it was given a random state
    threads = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        return np.asarray(pacmap.PaCMAP(random_state=0).fit_transform(x.astype(np.float32)), np.float64)
    finally:
        numba.set_num_threads(threads)


def in_unit_square(points: Array) -> Array:
    """The same picture, (N, 2), centred in [0, 1]² with its proportions kept."""
    low, high = points.min(0), points.max(0)
    scaled: Array = 0.5 + (points - (low + high) / 2) / max(float((high - low).max()), 1e-12)
    return scaled


def neighbour_agreement(features: NDArray[np.float32], labels: NDArray[np.int64], neighbours: int = 10) -> Array:
    """For every image the share of its nearest neighbours that have its label: (N, K), (N,) → (N,)."""
    from sklearn.neighbors import NearestNeighbors

    count = min(neighbours, len(features) - 1)
    found = NearestNeighbors(n_neighbors=count).fit(features).kneighbors(return_distance=False)
    share: Array = (labels[found] == labels[:, None]).mean(1)
    return share
