"""Near duplicates: pairs of images whose 16×16 grey thumbnails correlate almost perfectly; every such pair is found.

A thumbnail without its mean and with length 1 is a point u on a sphere, and a correlation of at least r is a distance
of at most √(2 − 2r). Distances only shrink when the points are projected on their first principal axes, so that a pair
that is near is near there too: the points are sorted along the first axis, compared with those within reach in a few
dimensions, and what remains is confirmed in full.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from apercu.data.convert import grey

THUMB = 16
ALIKE = 0.995  # copies that were resized, brightened or saved again as JPEG correlate more than this
REACH = 2 - 2 * ALIKE  # a squared distance
AXES = 24
BLOCK = 2048
MOST = 100_000  # pairs, after which the search ends: such a set is a film, not a set of images


def thumbnails(images: NDArray[Any], white: float) -> NDArray[np.uint8]:
    """Images, (B, C, H, W), to the means of 16×16 equal areas of their grey, (B, 256)."""
    plane = images if images.shape[1] == 1 else grey(images) if images.shape[1] == 3 else images.mean(1, keepdims=True)
    light = plane[:, 0].astype(np.float32) / np.float32(white)
    means = _areas(light.shape[1]) @ light @ _areas(light.shape[2]).T
    levels: NDArray[np.uint8] = np.rint(means.clip(0, 1) * 255).astype(np.uint8)
    return levels.reshape(len(images), -1)


def _areas(size: int) -> NDArray[np.float32]:
    """How much of each of `size` pixels lies in each of 16 equal areas, (16, size); rows sum to 1."""
    edges = np.arange(THUMB + 1) * (size / THUMB)
    pixels = np.arange(size)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return np.asarray(overlap.clip(0) * (THUMB / size), dtype=np.float32)


def near_pairs(thumbs: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Pairs of images that look alike, (P, 2), and their correlation, (P,), from thumbnails, (N, 256)."""
    uneven = np.flatnonzero(thumbs.max(axis=1, initial=0) > thumbs.min(axis=1, initial=255))
    points = _project(thumbs, uneven)
    order = np.argsort(points[:, 0], kind="stable")
    points, rows = points[order], uneven[order]
    # |p|² − 2 p·q + |q|², as one product of matrices.
    lengths, ones = np.einsum("nk,nk->n", points, points)[:, None], np.ones((len(points), 1), np.float32)
    left_side, right_side = np.hstack([-2 * points, lengths, ones]), np.hstack([points, ones, lengths])
    found: list[NDArray[np.int64]] = []
    count = 0
    for start in range(0, len(points), BLOCK):
        here = slice(start, min(start + BLOCK, len(points)))
        end = int(np.searchsorted(points[:, 0], points[here.stop - 1, 0] + REACH**0.5, side="right"))
        for other in range(start, end, BLOCK):
            there = slice(other, min(other + BLOCK, end))
            near = np.flatnonzero(left_side[here] @ right_side[there].T <= REACH + 1e-5)
            left, right = np.divmod(near, there.stop - there.start)
            once = left + start < right + other
            pairs = np.stack([rows[left[once] + start], rows[right[once] + other]], axis=1)
            pairs = pairs[_correlation(thumbs, pairs) >= ALIKE]
            found.append(pairs)
            count += len(pairs)
        if count > MOST:
            break
    together = np.concatenate([np.empty((0, 2), np.int64), *found])
    together = np.unique(np.sort(together, axis=1), axis=0)
    return together, _correlation(thumbs, together)


def _project(thumbs: NDArray[np.uint8], rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """The thumbnails at `rows` as points along their first principal axes, (len(rows), AXES)."""
    chunks = [rows[start : start + BLOCK] for start in range(0, len(rows), BLOCK)]
    second = np.zeros((thumbs.shape[1], thumbs.shape[1]), np.float32)
    for chunk in chunks:
        units = _standard(thumbs[chunk])
        second += units.T @ units
    axes = np.linalg.eigh(second)[1][:, : -AXES - 1 : -1]
    return np.concatenate([np.empty((0, AXES), np.float32), *(_standard(thumbs[c]) @ axes for c in chunks)])


def _correlation(thumbs: NDArray[np.uint8], pairs: NDArray[np.int64]) -> NDArray[np.float32]:
    parts = [np.empty(0, np.float32)]
    for start in range(0, len(pairs), BLOCK):
        left, right = (_standard(thumbs[pairs[start : start + BLOCK, side]]) for side in (0, 1))
        parts.append(np.einsum("pi,pi->p", left, right))
    return np.concatenate(parts)


def _standard(thumbs: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Mean 0 and length 1."""
    centred = thumbs - thumbs.mean(axis=1, keepdims=True, dtype=np.float32)
    return np.asarray(centred / np.linalg.norm(centred, axis=1, keepdims=True), dtype=np.float32)
