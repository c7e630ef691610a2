"""A set of images read by index, and the reason why a file is not in it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apercu.data.convert import Resize
from apercu.data.pixels import Joined, Pixels
from apercu.errors import ApercuError
from apercu.types import ImageSpec


@dataclass(frozen=True)
class Problem:
    """A file or folder that was skipped, and why."""

    id: str
    reason: str

    def __str__(self) -> str:
        return f"{self.id}: {self.reason}"


@dataclass(frozen=True)
class Original:
    """Images as they were stored, before `resize` brought them to one size: `sizes`, (M, 2), and `pixels`, by row."""

    sizes: NDArray[np.int64]
    pixels: Pixels
    resize: Resize


@dataclass(frozen=True, eq=False, repr=False)
class ImageSet:
    """N images of one kind, read by index.

    `ids`: N unique names, a path relative to the folder or `train-images-idx3-ubyte.gz#12`; `labels`: (N,) int64, −1
    where unknown, otherwise an index into `classes`; `sizes`: (N, 2), height and width; `hashes`: (N, 16) uint8, a
    digest of each image's type, shape and pixels as decoded; `rows`: (N,), where the images stand in `pixels`;
    `masks`: by id, what reads the mask of an image that has one, (H, W): bool, or where `marked` names what the values
    1, 2, … mean, int16 with 0 for nothing and −1 for unknown; `original`: where they were brought to another size.
    """

    spec: ImageSpec
    ids: Sequence[str]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    sizes: NDArray[np.int64]
    hashes: NDArray[np.uint8]
    pixels: Pixels
    rows: NDArray[np.int64]
    masks: Mapping[str, Callable[[], NDArray[Any]]] = field(default_factory=dict)
    marked: tuple[str, ...] = ()
    original: Original | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        size = f"{self.spec.height}×{self.spec.width}" if self.spec.uniform else "mixed sizes"
        return f"ImageSet({len(self)} images, {self.spec.channels} channels, {size})"

    def read(self, indices: NDArray[Any] | Sequence[int]) -> NDArray[Any]:
        """Images, (B, C, H, W), in the stored type: uint8, uint16 or float32.

        Raises:
            ApercuError: the images differ in size, or a file changed since it was opened.
        """
        chosen = np.asarray(indices, dtype=np.int64)
        if len(chosen) == 0:
            return np.empty((0, *self.spec.shape), self.pixels.dtype)
        if not self.spec.uniform:
            sizes = np.unique(self.sizes[chosen], axis=0)
            if len(sizes) > 1:
                (h, w), (other_h, other_w) = sizes[0], sizes[-1]
                raise ApercuError(
                    f"the images differ in size ({h}×{w}, {other_h}×{other_w}, …) and cannot be one batch: "
                    "open them with size= and fit='resize', 'crop' or 'pad'"
                )
        return self.pixels.read(self.rows[chosen])

    def mask(self, index: int) -> NDArray[np.bool_] | None:
        """Where something is marked in the image at `index`, (H, W); None where nobody drew a mask of it.

        Raises:
            ApercuError: the mask cannot be read, or has another size than its image.
        """
        drawn = self.numbers(index)
        return None if drawn is None else drawn > 0

    def numbers(self, index: int) -> NDArray[Any] | None:
        """The mask of the image at `index` as it is in `masks`, (H, W); None where nobody drew one.

        Raises:
            ApercuError: the mask cannot be read, or has another size than its image.
        """
        name = self.ids[index]
        if name not in self.masks:
            return None
        try:
            drawn = self.masks[name]()
        except ApercuError as error:
            raise ApercuError(f"the mask of {name}: {error}") from None
        if drawn.shape != tuple(self.sizes[index].tolist()):
            (height, width), (h, w) = drawn.shape, self.sizes[index].tolist()
            raise ApercuError(f"the mask of {name} is {height}×{width} and the image {h}×{w}: draw it at that size")
        return drawn

    def as_stored(self) -> ImageSet:
        """The same images, without masks, at the size that they were stored with; themselves where that is theirs."""
        if self.original is None:
            return self
        sizes = self.original.sizes[self.rows]
        height, width = sizes.max(0, initial=1).tolist()
        spec = replace(self.spec, height=height, width=width, uniform=bool((sizes == sizes[:1]).all()))
        return replace(self, spec=spec, sizes=sizes, pixels=self.original.pixels, masks={}, original=None)

    def stored_map(self, index: int, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """What is said of the pixels of the image at `index`, (C, H, W), for those that it was stored with; 0 for those
        that were cropped away."""
        if self.original is None:
            return values
        height, width = self.original.sizes[self.rows[index]].tolist()
        return self.original.resize.undo(values, (height, width))

    def subset(self, indices: NDArray[Any] | Sequence[int]) -> ImageSet:
        """A view of the images at `indices`; no pixel is copied."""
        chosen = np.asarray(indices)
        chosen = np.flatnonzero(chosen) if chosen.dtype == np.bool_ else chosen.astype(np.int64)
        return replace(
            self,
            ids=[self.ids[i] for i in chosen.tolist()],
            labels=self.labels[chosen],
            sizes=self.sizes[chosen],
            hashes=self.hashes[chosen],
            rows=self.rows[chosen],
        )

    def with_labels(self, labels: NDArray[Any], classes: Sequence[str] | None = None) -> ImageSet:
        """The same images with other labels, (N,), −1 where unknown.

        Raises:
            ApercuError: not one label for each image, or a label that no class has.
        """
        names = self.classes if classes is None else tuple(classes)
        labels = np.asarray(labels, dtype=np.int64)
        if labels.shape != (len(self),):
            raise ApercuError(f"{len(self)} images need {len(self)} labels, not an array of shape {labels.shape}")
        if len(labels) and (labels.min() < -1 or labels.max() >= len(names)):
            raise ApercuError(f"labels must be −1 (unknown) or one of the {len(names)} classes: 0 to {len(names) - 1}")
        return replace(self, labels=labels, classes=names)


def fingerprint(sets: Sequence[ImageSet]) -> str:
    """A digest of pixels and labels, the same wherever the images stand."""
    digest = hashlib.sha256()
    for images in sets:
        digest.update(np.ascontiguousarray(images.hashes).tobytes())
        digest.update(images.labels.tobytes())
    return digest.hexdigest()


def join(sets: Sequence[ImageSet]) -> ImageSet:
    """The images of all `sets`, which must have the same spec and classes, as one.

    Raises:
        ApercuError: the sets differ in spec or classes.
    """
    first = sets[0]
    if any((s.spec, s.classes, s.marked) != (first.spec, first.classes, first.marked) for s in sets):
        raise ApercuError("only sets with the same kind of image and the same classes can be joined")
    pixels, rows, original = first.pixels, [s.rows for s in sets], first.original
    if any(s.pixels is not pixels for s in sets):
        original = None
        offsets = np.cumsum([0, *(len(s.pixels) for s in sets[:-1])])
        pixels, rows = Joined([s.pixels for s in sets]), [r + o for r, o in zip(rows, offsets, strict=True)]
    return ImageSet(
        spec=first.spec,
        ids=[name for s in sets for name in s.ids],
        labels=np.concatenate([s.labels for s in sets]),
        classes=first.classes,
        sizes=np.concatenate([s.sizes for s in sets]),
        hashes=np.concatenate([s.hashes for s in sets]),
        pixels=pixels,
        rows=np.concatenate(rows),
        masks={name: mask for s in sets for name, mask in s.masks.items()},
        marked=first.marked,
        original=original,
    )
