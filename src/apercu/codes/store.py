"""The codes of many images: what is known of each, its code, and which others are near."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from apercu.codes.search import Compared, Floats, Ints, beyond_chance, groups
from apercu.codes.table import THUMB, Table, read_about
from apercu.errors import ApercuError

if TYPE_CHECKING:
    import pyarrow as pa

EXACT = 50_000
"""Rows that are compared one by one; more than these are worth an index."""
PROBED, LEAST = 16, 8
"""An index has √N parts, of which a 16th is looked at, at least 8: neighbours lie in more than the nearest part."""
SAMPLE = 2000
ALIKE = 0.99
"""The similarity of near duplicates where images are too few to learn it from."""
KNOWN = ("id", "place", "label", "split", "hash", "height", "width", "white", "depth", "price")


@dataclass(frozen=True)
class Hit:
    """An image that was found. `distance`: Euclidean, between vectors; `similarity`: 1 − d² / s, where s is the mean
    squared distance of two images of the table: 1 for the same code, 0 for two images that were drawn at random."""

    id: str
    label: str | None
    distance: float
    similarity: float


class Codes:
    """The codes of images as `apercu.encode` keeps them, to be searched, or to be used in place of the images."""

    def __init__(self, folder: str | Path) -> None:
        """Open a folder of codes.

        Raises:
            ApercuError: the extra is not installed.
            FormatError: no such folder, damaged, or from a newer version.
        """
        self.folder = Path(folder).expanduser()
        self.about = read_about(self.folder)
        self._table = Table(self.folder)

    def __len__(self) -> int:
        return len(self._rows)

    @cached_property
    def _rows(self) -> pa.Table:
        """All that is small, in the order of the source."""
        return self._table.read(KNOWN).sort_by([("place", "ascending"), ("id", "ascending")])

    @cached_property
    def _vectors(self) -> Floats:
        """(N, K), in the order of the rows."""
        found = self._table.read(["vector"])
        place = {row: i for i, row in enumerate(found["_rowid"].to_pylist())}
        order = [place[row] for row in self._rows["_rowid"].to_pylist()]
        return _matrix(found["vector"], self.about.vector)[order]

    @cached_property
    def _compare(self) -> Compared:
        return Compared(self._vectors)

    @cached_property
    def ids(self) -> list[str]:
        """The names of the images, as in their source."""
        names: list[str] = self._rows["id"].to_pylist()
        return names

    @cached_property
    def labels(self) -> list[str | None]:
        """The label of each image, None where it has none."""
        labels: list[str | None] = self._rows["label"].to_pylist()
        return labels

    @cached_property
    def places(self) -> dict[str, int]:
        """The row of each id."""
        return {name: row for row, name in enumerate(self.ids)}

    def column(self, name: str) -> NDArray[Any]:
        """What the rows hold besides, (N,): place, split, hash, height, width, white, depth or price."""
        values: NDArray[Any] = self._rows[name].to_numpy()
        return values

    def vectors(self, rows: Sequence[int] | Ints) -> Floats:
        """One vector for each of these rows, (B, K): the code, averaged over at most 4×4 cells."""
        return _matrix(self._take(rows, "vector"), self.about.vector)

    def codes(self, rows: Sequence[int] | Ints) -> NDArray[Any]:
        """The whole code of these rows, which share a size: symbols (B, N, S) as integers, else (B, N, D) float32."""
        if not self.about.kind:
            return self.vectors(rows)[:, None]
        data = b"".join(self._take(rows, "code").to_pylist())
        return np.frombuffer(data, self.about.kind).reshape(len(rows), -1, self.about.width)

    def thumbnails(self, rows: Sequence[int] | Ints) -> NDArray[np.uint8]:
        """Means of 16×16 equal areas of these rows, grey, (B, 256)."""
        parts = (self._take(rows[start : start + SAMPLE], "thumb") for start in range(0, len(rows), SAMPLE))
        data = b"".join(thumb for part in parts for thumb in part.to_pylist())
        return np.frombuffer(data, np.uint8).reshape(len(rows), THUMB)

    @cached_property
    def spread(self) -> float:
        """s, the mean squared distance between two images, by the variance of a sample: E‖a − b‖² = 2 Σ Var."""
        if not len(self):
            raise ApercuError(f"{self.folder} holds no image yet; add some with: apercu encode MODEL IMAGES -o CODES")
        rows = np.sort(np.random.default_rng(0).permutation(len(self))[:SAMPLE])
        return max(2 * float(self.vectors(rows).var(0, dtype=np.float64).sum()), 1e-30)

    def search(
        self, vectors: NDArray[Any], k: int = 10, *, label: str | None = None, exact: bool | None = None
    ) -> list[list[Hit]]:
        """The k images nearest to each vector, (Q, K), nearest first.

        `label`: among images of this label; `exact`: compare with every row, which is usual up to 50,000 rows, among
        images of one label, and where there is no index.

        Raises:
            ApercuError: vectors of another length, no image of this label, or k below 1.
        """
        queries = np.ascontiguousarray(vectors, dtype=np.float32)
        if queries.ndim != 2 or queries.shape[1] != self.about.vector:
            raise ApercuError(f"vectors to search for have shape (Q, {self.about.vector}), not {queries.shape}")
        if k < 1:
            raise ApercuError(f"k is how many images to find, at least 1, and not {k}")
        if label is not None and label not in self.labels:
            raise ApercuError(f"no image has the label {label!r}; choose one of: {', '.join(self.about.classes[:20])}")
        if not len(queries):
            return []
        if exact is None:
            exact = len(self) <= EXACT
        probed = None if exact or label is not None or not self.indexed else self._probed(queries, k)
        rows, squared = probed or self._compared(queries, k, label)
        return [
            [
                Hit(self.ids[row], self.labels[row], float(d) ** 0.5, 1 - float(d) / self.spread)
                for row, d in zip(found, distances, strict=True)
            ]
            for found, distances in zip(rows, squared, strict=True)
        ]

    @cached_property
    def alike(self) -> float:
        """The similarity from which on images are near duplicates: one in a thousand has a neighbour so near by chance.

        It follows from the distances between neighbours in the table; 0.99 where these are fewer than 40.
        """
        reach = beyond_chance(self._vectors)
        return ALIKE if reach is None else 1 - reach**2 / self.spread

    def groups(self, threshold: float | None = None) -> list[list[str]]:
        """Ids of images that are chained by a similarity of at least `threshold`, the largest group first.

        By default the threshold is `alike`.

        Raises:
            ApercuError: a threshold that is no similarity.
        """
        threshold = self.alike if threshold is None else threshold
        if not 0 < threshold <= 1:
            raise ApercuError(f"the threshold is a similarity above 0 and at most 1, and not {threshold:g}")
        found = groups(self._vectors, (1 - threshold) * self.spread)
        return [[self.ids[row] for row in group.tolist()] for group in found]

    def index(self) -> int:
        """Tidy the table, sort its vectors into √N parts anew, and return how many; worth it above 50,000 rows.

        Raises:
            ApercuError: fewer images than an index can be made of.
        """
        if len(self) < 256:
            raise ApercuError(f"an index takes 256 images and {self.folder} has {len(self)}; it is searched without")
        parts = isqrt(len(self))
        self._table.tidy()
        for cached in ("_rows", "_row_numbers", "_vectors"):  # tidying moves rows
            vars(self).pop(cached, None)
        self._table.index(parts)
        return parts

    @property
    def indexed(self) -> bool:
        """Whether there is an index."""
        return self._table.indexed

    def _compared(self, queries: Floats, k: int, label: str | None) -> tuple[list[list[int]], list[list[float]]]:
        """By comparing every row, or every row of a label."""
        if label is None:
            rows, squared = self._compare.nearest(queries, k)
            return rows.tolist(), squared.tolist()
        some = np.flatnonzero([name == label for name in self.labels])
        rows, squared = Compared(self._vectors[some]).nearest(queries, k)
        return some[rows].tolist(), squared.tolist()

    def _probed(self, queries: Floats, k: int) -> tuple[list[list[int]], list[list[float]]] | None:
        """By the index; None where the parts that it looked at hold fewer than k."""
        count = len(queries)
        found = self._table.nearest(list(queries), k, max(LEAST, isqrt(len(self)) // PROBED))
        if len(found) < count * min(k, len(self)):
            return None
        rows = np.array([self.places[name] for name in found["id"].to_pylist()]).reshape(count, -1)
        squared = found["_distance"].to_numpy().clip(0).reshape(count, -1)
        return rows.tolist(), squared.tolist()

    def _take(self, rows: Sequence[int] | Ints, column: str) -> Any:  # noqa: ANN401 - an Arrow column
        numbers = self._row_numbers[np.asarray(rows, np.int64)]
        return self._table.take(numbers.tolist(), [column])[column]

    @cached_property
    def _row_numbers(self) -> NDArray[np.uint64]:
        numbers: NDArray[np.uint64] = self._rows["_rowid"].to_numpy()
        return numbers


def _matrix(column: Any, length: int) -> Floats:  # noqa: ANN401 - an Arrow column
    """A column of vectors as (N, K)."""
    flat = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    matrix: Floats = flat.reshape(-1, length).astype(np.float32, copy=False)
    return matrix
