"""Labels spread over a graph of images: images that look alike to the network are given like answers.

    W_ij = max(0, cos(f_i, f_j))⁴ among k nearest neighbours,  S = D^(−½) W D^(−½),  F = (I − α S)⁻¹ Y

and the answers F, their rows brought to the sum 1, to the power at which labels explain each other best.

Zhou et al., "Learning with local and global consistency" (2004), on the features of a network as in Iscen et al.,
"Label propagation for deep semi-supervised learning" (2019). A few labels reach far images over many near ones, which
no single answer of the network, however sure, can do.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

NEIGHBOURS, POWER, ALPHA = 10, 4, 0.99
RANK = 64
MOST = 20_000
"""Images in the graph; each other one takes the mean of its nearest in there."""
ROUNDS, CLOSE, TURNS = 60, 1e-5, 30
JUDGED = 100
"""Labels that are compared with what the others say of them, at most."""
POWERS = np.geomspace(1, 32, 21)

Features = NDArray[np.float32]
Points = NDArray[np.float32]
Answers = NDArray[np.float64]


def spread(points: Points, labels: NDArray[np.int64], classes: int, seed: int = 0) -> Answers:
    """What the labels say of every image: directions (n, R), (n,) with −1 where unknown → (n, classes).

    Rows sum to 1. Labelled images keep their label; where no labelled image is near, all classes are equally likely.
    """
    return Reached(points, labels, classes, seed).answers()


class Reached:
    """Where the labels reach in a graph of at most 20,000 images, for arguments as `spread` has them.

    `said`: answers of the unlabelled images in the graph, (m, K); `apart`: what all labels but their own say of some
    labelled images, (j, K), whose classes are `truth`, (j,), and have other labels. All rows sum to 1.
    """

    def __init__(self, points: Points, labels: NDArray[np.int64], classes: int, seed: int = 0) -> None:
        self.points, self.labels, self.classes = points, labels, classes
        rng = np.random.default_rng(seed)
        known, self._unknown = np.flatnonzero(labels >= 0), np.flatnonzero(labels < 0)
        room = MOST // 2 if len(self._unknown) else MOST
        self._asked = np.sort(rng.permutation(known)[:room])
        some = np.sort(rng.permutation(self._unknown)[: MOST - len(self._asked)])
        self._inside = np.concatenate([self._asked, some])
        given = np.eye(classes)[labels[self._asked]]
        said, judged, apart = _diffused(points[self._inside], given)
        told = given[judged] @ given.sum(0) > 1
        judged, apart = judged[told], apart[told]
        power = _power(apart, given[judged])
        self._rows, self.apart = _sharpened(said, power), _sharpened(apart, power)
        self.said, self.truth = self._rows[len(self._asked) :], labels[self._asked][judged]

    def answers(self, shares: Answers | None = None) -> Answers:
        """Of all images, (n, classes); `shares`: of the classes among the unlabelled, where known."""
        found = balanced(self._rows, len(self._asked), shares)
        answers = np.empty((len(self.points), self.classes))
        answers[self._inside] = found
        outside = np.setdiff1d(self._unknown, self._inside, assume_unique=True)
        if len(outside):
            answers[outside] = of_nearest(self.points[self._inside], found, self.points[outside])
        known = self.labels >= 0
        answers[known] = np.eye(self.classes)[self.labels[known]]
        return answers


def of_nearest(points: Points, answers: Answers, asked: Points) -> Answers:
    """The mean answer of the ten points that are nearest to each one asked: (n, R), (n, K), (m, R) → (m, K)."""
    weights, nearest = _neighbours(points, asked, NEIGHBOURS)
    return rows_to_one((weights[..., None] * answers[nearest]).sum(1))


@dataclass(frozen=True)
class Axes:
    """`mean`: (L,); `components`: (R, L), directions in which features vary most."""

    mean: Features
    components: Features

    def directions(self, parts: Iterable[Features]) -> Points:
        """Where images lie from the mean, of length 1: parts of (b, L) → (n, R)."""
        points = np.concatenate([(part - self.mean) @ self.components.T for part in parts])
        found: Points = points / np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-12)
        return found


def principal_axes(features: Features) -> Axes:
    """The 64 directions in which the features vary most, or as many as there are: from (n, L)."""
    from sklearn.decomposition import PCA

    rank = min(RANK, *features.shape)
    solver = "randomized" if 2 * rank < min(features.shape) else "full"
    found = PCA(rank, svd_solver=solver, random_state=0).fit(features)
    return Axes(found.mean_.astype(np.float32), found.components_.astype(np.float32))


def balanced(answers: Answers, fixed: int = 0, shares: Answers | None = None) -> Answers:
    """Answers whose classes are about as frequent as `shares` say, (K,), by turns of scaling.

    Without them, as a mean of what was said and of equal shares. The first `fixed` rows are labels and not counted.
    Classes whose labels lie in a crowd would otherwise take what is between them and others; Sinkhorn and Knopp,
    "Concerning nonnegative matrices" (1967).
    """
    rows = rows_to_one(answers)
    free = rows[fixed:]
    if not len(free):
        return rows
    said = free.mean(0)
    goal = np.sqrt(np.maximum(said, 1e-12)) if shares is None else shares
    goal = goal / goal.sum()
    for _ in range(TURNS):
        free = rows_to_one(free * (goal / np.maximum(free.mean(0), 1e-12)))
    return np.concatenate([rows[:fixed], free])


def _diffused(points: Points, given: Answers) -> tuple[Answers, NDArray[np.int64], Answers]:
    """(I − α S)⁻¹ Y, where the first images are those with labels: (n, R), (m, K) → (n, K), at least 0.

    Then some of the labelled images, (j,), and what all labels but their own say of these, (j, K).
    """
    from scipy.sparse import csr_matrix, diags, identity

    count = min(NEIGHBOURS, len(points) - 1)
    weights, nearest = _neighbours(points, points, count + 1)
    weights, nearest = weights[:, 1:], nearest[:, 1:]  # the first is the image itself
    rows = np.repeat(np.arange(len(points)), count)
    one_way = csr_matrix((weights.ravel().astype(np.float64), (rows, nearest.ravel())), (len(points), len(points)))
    both_ways = one_way + one_way.T
    scale = diags(np.asarray(both_ways.sum(1)).ravel().clip(1e-9) ** -0.5)
    classes = given.shape[1]
    judged = np.unique(np.linspace(0, len(given) - 1, min(len(given), JUDGED)).astype(np.int64))
    sources = np.zeros((len(points), classes + len(judged)))
    sources[: len(given), :classes] = given
    sources[judged, classes + np.arange(len(judged))] = 1
    found = _solved((identity(len(points)) - ALPHA * (scale @ both_ways @ scale)).tocsr(), sources)
    said, own = found[:, :classes].clip(0.0), found[judged, classes + np.arange(len(judged))]
    return said, judged, (said[judged] - own[:, None] * given[judged]).clip(0.0)


def _solved(system: csr_matrix, sources: Answers) -> Answers:
    """System⁻¹ of every column by conjugate gradients, all columns at once; Hestenes and Stiefel (1952)."""
    found, left = np.zeros_like(sources), sources.copy()
    way, size = left.copy(), np.square(left).sum(0)
    enough = CLOSE**2 * size
    for _ in range(ROUNDS):
        bent = system @ way
        step = size / np.maximum((way * bent).sum(0), 1e-300)
        found += step * way
        left -= step * bent
        before, size = size, np.square(left).sum(0)
        if (size <= enough).all():
            break
        way = left + size / np.maximum(before, 1e-300) * way
    return found


def _power(apart: Answers, own: Answers) -> float:
    """The power at which what other labels say of labelled images explains their own labels best, from 1 to 32.

    `apart`, `own`: (j, K).
    """
    if not len(apart):
        return 1.0
    logs, truth = np.log(rows_to_one(apart).clip(1e-9)), own.argmax(1)
    likelihood = [
        float((power * logs[np.arange(len(logs)), truth] - np.log(np.exp(power * logs).sum(1))).mean())
        for power in POWERS
    ]
    return float(POWERS[int(np.argmax(likelihood))])


def _sharpened(answers: Answers, power: float) -> Answers:
    """Rows that sum to 1, to a power, and to 1 again."""
    return rows_to_one(rows_to_one(answers) ** power)


def _neighbours(among: Points, points: Points, count: int) -> tuple[Points, NDArray[np.int64]]:
    """Weights and positions of the nearest to each point, (m, count) each."""
    from sklearn.neighbors import NearestNeighbors

    search = NearestNeighbors(n_neighbors=min(count, len(among)), algorithm="brute").fit(among)
    distances, nearest = search.kneighbors(points)
    weights: Points = np.maximum(0.0, 1 - distances**2 / 2).astype(np.float32) ** POWER
    return weights, nearest


def rows_to_one(answers: Answers) -> Answers:
    """Each row divided by its sum; a row of zeros becomes equal shares."""
    sums = answers.sum(1, keepdims=True)
    shares: Answers = np.where(sums > 0, answers / np.maximum(sums, 1e-300), 1 / answers.shape[1])
    return shares
