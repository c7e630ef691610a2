"""Where pixels are kept: one array, a list of arrays, several of these, or files that are decoded when asked for."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

Source = TypeVar("Source")
Result = TypeVar("Result")


class Pixels(Protocol):
    """N images with the same channels and type."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """The stored type: uint8, uint16 or float32."""

    def __len__(self) -> int: ...

    def read(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """(B, C, H, W); the images at `rows` share a size."""


class Stack:
    """One array, (N, C, H, W), in memory or mapped from a file."""

    def __init__(self, array: NDArray[Any]) -> None:
        self.array = array
        self.dtype = array.dtype

    def __len__(self) -> int:
        return len(self.array)

    def read(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """(B, C, H, W)."""
        return self.array[rows]


class Lazy:
    """Images that are made when asked for: N functions without arguments, each giving (C, H, W)."""

    def __init__(self, images: Sequence[Callable[[], NDArray[Any]]], dtype: np.dtype[Any]) -> None:
        self.images = images
        self.dtype = dtype

    def __len__(self) -> int:
        return len(self.images)

    def read(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """(B, C, H, W), made by a pool of threads."""
        return np.stack(list(in_threads(lambda row: self.images[row](), rows.tolist())))


class Loose:
    """Images of different sizes in memory, each (C, H, W)."""

    def __init__(self, images: Sequence[NDArray[Any]]) -> None:
        self.images = images
        self.dtype = images[0].dtype

    def __len__(self) -> int:
        return len(self.images)

    def read(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """(B, C, H, W)."""
        return np.stack([self.images[row] for row in rows.tolist()])


class Joined:
    """Several stores, one after the other."""

    def __init__(self, stores: Sequence[Pixels]) -> None:
        self.stores = stores
        self.ends = np.cumsum([len(s) for s in stores])
        self.dtype = stores[0].dtype

    def __len__(self) -> int:
        return int(self.ends[-1])

    def read(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """(B, C, H, W)."""
        owner = np.searchsorted(self.ends, rows, side="right")
        found: list[tuple[NDArray[np.int64], NDArray[Any]]] = []
        for k in np.unique(owner).tolist():
            place = np.flatnonzero(owner == k)
            store = self.stores[k]
            found.append((place, store.read(rows[place] - (self.ends[k] - len(store)))))
        out = np.empty((len(rows), *found[0][1].shape[1:]), self.dtype)
        for place, images in found:
            out[place] = images
        return out


def in_threads(make: Callable[[Source], Result], items: Iterable[Source]) -> Iterator[Result]:
    """`make(item)` for every item, in order, by a pool of threads that never runs far ahead of its reader."""
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    todo = list(items)
    if len(todo) <= 1 or workers == 1:
        yield from map(make, todo)
        return
    window = 32 * workers
    # A pool for each call: one that is kept would not survive the fork of a data loader's worker.
    with ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(todo), window):
            yield from pool.map(make, todo[start : start + window])


def default_memory() -> int:
    """Bytes that decoded images may take: a third of the machine's memory."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 3
    except (AttributeError, ValueError, OSError):  # not known on Windows
        return 4 * 2**30
