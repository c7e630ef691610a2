"""What is in a set of images, and what is wrong with it, before anything is learnt from it."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from apercu.data.duplicates import near_pairs, thumbnails
from apercu.data.images import ImageSet, Problem
from apercu.data.open import open_images
from apercu.data.splits import NAMES
from apercu.data.survey import Progress

if TYPE_CHECKING:
    from rich.table import Table

CHUNK = 2**26  # bytes of pixels looked at together
SHOWN = 5


@dataclass(frozen=True)
class Alike:
    """Images that are the same: their ids and splits, and how much the least alike two correlate (1 if identical)."""

    ids: tuple[str, ...]
    splits: tuple[str, ...]
    correlation: float = 1.0

    def __str__(self) -> str:
        return " = ".join(f"{name} ({split})" for name, split in zip(self.ids, self.splits, strict=True))


@dataclass(frozen=True)
class CheckReport:
    """What `check` found.

    `kinds`: images for each depth and number of channels, as stored; `sizes`: images for each "height×width", most
    frequent first; `range`: the lowest and highest pixel; `constant`: images of one value; `duplicates`: groups with
    the same pixels; `near`: pairs that look alike; `across`: those of both that stand in different splits;
    `contradictions`: groups with the same pixels but different labels; `balance`: images for each class in each split.
    """

    origin: str
    splits: dict[str, int]
    problems: list[Problem]
    kinds: dict[str, int]
    sizes: dict[str, int]
    white: float
    range: tuple[float, float]
    constant: list[str]
    duplicates: list[Alike]
    near: list[Alike]
    across: list[Alike]
    contradictions: list[Alike]
    balance: dict[str, dict[str, int]]
    notes: list[str]

    def to_json(self) -> dict[str, Any]:
        """The report as plain dictionaries, lists, strings and numbers."""
        return {**asdict(self), "range": list(self.range)}

    def rows(self) -> list[tuple[str, str]]:
        """The report as (what, finding), for a person."""
        low, high = self.range
        rows = [
            ("images", f"{sum(self.splits.values())} ({_counts(self.splits)})"),
            ("kinds", _counts(self.kinds)),
            ("sizes", _counts(self.sizes)),
            ("range", f"{low:g} to {high:g}, white is {self.white:g}"),
            *(("class " + name if name else "unlabelled", _counts(split)) for name, split in self.balance.items()),
            ("unreadable", _some(self.problems)),
            ("constant", _some(self.constant)),
            ("duplicates", _some(self.duplicates)),
            ("near duplicates", _some(self.near)),
            ("in two splits", _some(self.across)),
            ("two labels", _some(self.contradictions)),
        ]
        return rows + [("note", note) for note in self.notes]

    def __str__(self) -> str:
        rows = self.rows()
        width = max(len(what) for what, _ in rows)
        return "\n".join(f"{what:<{width}}  {finding}" for what, finding in rows)

    def __rich__(self) -> Table:
        from rich.table import Table
        from rich.text import Text

        table = Table(title=Text(self.origin), show_header=False)
        for what, finding in self.rows():
            table.add_row(Text(what), Text(finding))  # not markup: a file name may hold brackets
        return table


def check(images: object, *, memory: int | None = None, progress: Progress | None = None) -> CheckReport:
    """Open `images`, or take them as opened, and look for what would spoil training or evaluation.

    Raises:
        ApercuError: there is nothing to open.
    """
    opened = open_images(images, memory=memory, progress=progress)
    everything = opened.split("all")
    split_of = {name: split for split in NAMES for name in opened.split(split).ids}
    splits = [split_of[name] for name in everything.ids]
    low, high, constant, thumbs = _look(everything)
    groups = _same(everything.hashes)
    first = np.sort([group[0] for group in groups])
    pairs, correlation = near_pairs(thumbs[first])

    def alike(rows: NDArray[np.int64], correlation: float = 1.0) -> Alike:
        places = rows.tolist()
        return Alike(tuple(everything.ids[i] for i in places), tuple(splits[i] for i in places), correlation)

    repeated = [group for group in groups if len(group) > 1]
    duplicates = [alike(group) for group in repeated]
    near = [alike(first[pair], round(float(r), 4)) for pair, r in zip(pairs, correlation, strict=True)]
    contradictions = [alike(group) for group in repeated if len({*everything.labels[group].tolist()} - {-1}) > 1]
    return CheckReport(
        origin=opened.origin,
        splits={name: len(opened.split(name)) for name in NAMES},
        problems=opened.problems,
        kinds=opened.kinds,
        sizes=_sizes(everything),
        white=everything.spec.maximum,
        range=(low, high),
        constant=[everything.ids[i] for i in np.flatnonzero(constant).tolist()],
        duplicates=duplicates,
        near=near,
        across=[found for found in duplicates + near if len(set(found.splits)) > 1],
        contradictions=contradictions,
        balance=_balance(everything, splits),
        notes=opened.notes,
    )


def _look(images: ImageSet) -> tuple[float, float, NDArray[np.bool_], NDArray[np.uint8]]:
    """Lowest and highest pixel, which images are constant, (N,), and their thumbnails, (N, 256)."""
    low, high = np.inf, -np.inf
    constant = np.zeros(len(images), np.bool_)
    thumbs = np.zeros((len(images), 256), np.uint8)
    _, kind = np.unique(images.sizes, axis=0, return_inverse=True)
    for k in range(kind.max(initial=-1) + 1):
        rows = np.flatnonzero(kind == k)
        step = max(1, CHUNK // int(4 * images.spec.channels * images.sizes[rows[0]].prod()))
        for start in range(0, len(rows), step):
            some = rows[start : start + step]
            pixels = images.read(some)
            darkest, brightest = pixels.min(axis=(1, 2, 3)), pixels.max(axis=(1, 2, 3))
            low, high = min(low, float(darkest.min())), max(high, float(brightest.max()))
            constant[some] = darkest == brightest
            thumbs[some] = thumbnails(pixels, images.spec.maximum)
    return low, high, constant, thumbs


def _same(hashes: NDArray[np.uint8]) -> list[NDArray[np.int64]]:
    """Rows with equal digests, one group for each digest."""
    keys = np.ascontiguousarray(hashes).view("V16")[:, 0]
    groups: dict[bytes, list[int]] = defaultdict(list)
    for i, key in enumerate(keys.tolist()):
        groups[key].append(i)
    return [np.array(group, np.int64) for group in groups.values()]


def _sizes(images: ImageSet) -> dict[str, int]:
    counted = Counter(map(tuple, images.sizes.tolist())).most_common()
    return {f"{height}×{width}": count for (height, width), count in counted}


def _balance(images: ImageSet, splits: list[str]) -> dict[str, dict[str, int]]:
    """Images for each class and split; the class "" is of those without a label."""
    counted = Counter(zip(images.labels.tolist(), splits, strict=True))
    names = [*enumerate(images.classes), (-1, "")]
    table = {name: {split: counted[c, split] for split in NAMES} for c, name in names}
    if not any(table[""].values()):
        del table[""]
    return table


def _counts(counts: dict[str, int]) -> str:
    shown = [f"{count} {name}" for name, count in list(counts.items())[: 2 * SHOWN]]
    more = len(counts) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _some(found: list[Any]) -> str:
    if not found:
        return "none"
    shown = "; ".join(str(item) for item in found[:SHOWN])
    return f"{len(found)}: {shown}" + ("; …" if len(found) > SHOWN else "")
