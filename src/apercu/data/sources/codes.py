"""A folder of codes that apercu encode made, in place of the images: the model's encoder is skipped."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from apercu.codes.store import Codes
from apercu.codes.table import holds_codes
from apercu.data.convert import DEPTHS, Widen
from apercu.data.images import ImageSet
from apercu.data.pixels import default_memory
from apercu.data.recalled import Recalled
from apercu.data.sources.base import number_labels
from apercu.data.splits import NAMES, assign
from apercu.errors import ApercuError
from apercu.types import ImageSpec

if TYPE_CHECKING:
    from apercu.data.listing import Listing
    from apercu.data.open import Images


def accepts(images: object) -> bool:
    """Whether these are codes, or the name of their folder."""
    return isinstance(images, Codes) or holds_codes(images)


def open(images: object) -> Images:
    """The images of the codes, in their order; a pixel is read from their source only where a task asks for it.

    Raises:
        ApercuError: the extra is not installed, the folder is damaged, or it holds nothing.
    """
    from apercu.data.open import Images  # which imports the sources

    codes = images if isinstance(images, Codes) else Codes(str(images))
    if not len(codes):
        raise ApercuError(f"{codes.folder} holds no image yet; add some with: apercu encode MODEL IMAGES -o CODES")
    sizes = np.stack([codes.column("height"), codes.column("width")], 1).astype(np.int64)
    height, width = sizes.max(0).tolist()
    spec = ImageSpec(codes.about.channels, height, width, deepest(codes)[1], bool((sizes == sizes[0]).all()))
    labels, classes = number_labels(np.array(codes.labels, dtype=object), codes.about.classes)
    hashes = np.frombuffer(b"".join(codes.column("hash")), np.uint8).reshape(-1, 16)
    everything = ImageSet(
        spec=spec,
        ids=codes.ids,
        labels=labels,
        classes=classes,
        sizes=sizes,
        hashes=hashes,
        pixels=Kept(codes),
        rows=np.arange(len(codes)),
    )
    splits, notes = assign(codes.column("split").astype(np.str_), hashes)
    train, val, test = (everything.subset(splits == name) for name in NAMES)
    return Images(train, val, test, [], notes, str(codes.folder))


def deepest(codes: Codes) -> tuple[np.dtype[Any], float]:
    """The widest type of the images, and the value that means white in it."""
    bits = codes.column("depth")
    dtype = next(dtype for dtype in DEPTHS if 8 * dtype.itemsize == bits.max())
    return dtype, float(codes.column("white")[bits == bits.max()].max())


class Kept(Recalled):
    """The images of a folder of codes."""

    def __init__(self, codes: Codes) -> None:
        self.kept, self.fingerprint = codes, codes.about.fingerprint
        self.prices = codes.column("price").astype(np.float32)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The widest of all."""
        return deepest(self.kept)[0]

    def __len__(self) -> int:
        return len(self.kept)

    def codes(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """From the table."""
        return self.kept.codes(rows)

    def thumbnails(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """From the table."""
        return self.kept.thumbnails(rows)

    def read(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """(B, C, H, W), of the images where they were when they were encoded."""
        about, kept = self.kept.about, self.kept
        places = self._places
        asked = [places.get(kept.ids[row], -1) for row in rows.tolist()]
        listed = sorted({place for place in asked if place >= 0})
        images, there, _ = self._listing.open(listed, **about.opening, memory=default_memory())
        found = {place: i for i, place in enumerate(there)}
        pixels = []
        for row, place in zip(rows.tolist(), asked, strict=True):
            if images is None or place not in found or bytes(images.hashes[found[place]]) != self._hashes[row]:
                raise ApercuError(f"{kept.ids[row]} changed since it was encoded, or is gone: encode the images again")
            pixels.append(self._widen(images.read([found[place]])[0]))
        return np.stack(pixels)

    @cached_property
    def _hashes(self) -> list[bytes]:
        return list(self.kept.column("hash"))

    @cached_property
    def _listing(self) -> Listing:
        """The images in their source.

        Raises:
            ApercuError: they are not there.
        """
        from apercu.data.listing import Listing

        origin = self.kept.about.origin
        try:
            return Listing(origin)
        except ApercuError as error:
            raise ApercuError(
                f"this needs the images themselves and not only their codes, and they are not in {origin!r} ({error}); "
                "name IMAGES instead of CODES"
            ) from None

    @cached_property
    def _places(self) -> dict[str, int]:
        return {entry.id: place for place, entry in enumerate(self._listing.entries)}

    @cached_property
    def _widen(self) -> Widen:
        return Widen(self.kept.about.channels, DEPTHS.index(self.dtype))
