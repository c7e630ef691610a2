"""Near duplicates: candidates by a 64-bit difference hash, confirmed by correlation; linear in the number of images."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from apercu.data.convert import grey

THUMB = 16
BITS = 6  # hashes of one picture, saved twice, differ by fewer
ALIKE = 0.98  # and its thumbnails correlate more
NEIGHBOURS = 32
ROTATIONS = 8
# A difference below this share of white is noise, as in the flat background of a drawing.
FLAT = 2 / 255


def fingerprint(images: NDArray[Any], white: float) -> tuple[NDArray[np.uint64], NDArray[np.uint8]]:
    """Images, (B, C, H, W), to difference hashes, (B,), and grey thumbnails, (B, 256)."""
    plane = images if images.shape[1] == 1 else grey(images) if images.shape[1] == 3 else images.mean(1, keepdims=True)
    light = plane[:, 0].astype(np.float32) / np.float32(white)
    rows = reduce(light, 8, 9)
    bits = (np.diff(rows, axis=2) > FLAT).reshape(len(images), 64)
    hashes = np.packbits(bits, axis=1).view(">u8")[:, 0].astype(np.uint64)
    thumbs = np.rint(reduce(light, THUMB, THUMB).clip(0, 1) * 255).astype(np.uint8)
    return hashes, thumbs.reshape(len(images), -1)


def reduce(light: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """The means of areas, (B, H, W) → (B, height, width)."""
    down, across = _areas(light.shape[1], height), _areas(light.shape[2], width)
    return np.asarray(down @ light @ across.T, dtype=np.float32)


def _areas(size: int, parts: int) -> NDArray[np.float32]:
    """How much of each of `size` pixels lies in each of `parts` equal areas, (parts, size); rows sum to 1."""
    edges = np.arange(parts + 1) * (size / parts)
    pixels = np.arange(size)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return (overlap.clip(0) * (parts / size)).astype(np.float32)


def near_pairs(hashes: NDArray[np.uint64], thumbs: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Pairs of images that look alike, (P, 2), and the correlation of their thumbnails, (P,).

    Hashes that differ by few bits share a run of bits, so they are near one another when sorted from there on: each
    is compared with its neighbours in several such orders. Where very many images are alike, not every pair is found.
    """
    found: list[NDArray[np.int64]] = [np.empty((0, 2), np.int64)]
    for turn in range(ROTATIONS):
        shift = np.uint64(turn * 64 // ROTATIONS)
        rotated = (hashes << shift) | (hashes >> ((np.uint64(64) - shift) % np.uint64(64)))
        order = np.argsort(rotated, kind="stable")
        turned = rotated[order]
        for step in range(1, min(NEIGHBOURS, len(order) - 1) + 1):
            close = np.flatnonzero(np.bitwise_count(turned[step:] ^ turned[:-step]) <= BITS)
            pairs = np.sort(np.stack([order[close], order[close + step]], axis=1), axis=1)
            found.append(_confirmed(pairs, thumbs)[0])
    pairs, _ = np.unique(np.concatenate(found), axis=0), None
    return _confirmed(pairs, thumbs)


def _confirmed(pairs: NDArray[np.int64], thumbs: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    left, right = (_standard(thumbs[pairs[:, side]]) for side in (0, 1))
    correlation = np.einsum("pi,pi->p", left, right)
    alike = correlation >= ALIKE
    return pairs[alike], correlation[alike]


def _standard(thumbs: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Mean 0 and length 1; a constant image correlates with nothing."""
    centred = thumbs - thumbs.mean(axis=1, keepdims=True, dtype=np.float32)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    return np.asarray(centred / np.maximum(length, 1.0), dtype=np.float32)
