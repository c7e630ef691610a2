"""Read what apercu compress wrote: `.apc` files, or an archive, back to `NAME.png`, or `.tif` where PNG cannot hold it.

A file that is damaged, or was written with another model, is named with its reason and gives no image; the others are
read.

Example: apercu decompress MODEL COMPRESSED -o OUT
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from apercu.api import Model
from apercu.codec.archive import MAGIC as ARCHIVE
from apercu.codec.archive import read_archive
from apercu.codec.codec import Codec, reading_codec
from apercu.codec.container import Coded, from_file, read_bytes
from apercu.codec.metadata import Metadata, put_back
from apercu.codec.names import names_of
from apercu.codec.places import ENDING
from apercu.codes.table import holds_codes
from apercu.data.images import ImageSet
from apercu.errors import ApercuError, FormatError
from apercu.sheet import save_image
from apercu.tasks.base import Result, Task
from apercu.tasks.compress import Compress

__all__ = ["Decompress"]

TOGETHER = 256
Picture = tuple[NDArray[Any], float, Metadata | None]
"""Pixels (C, H, W), the value that means white, and the metadata of the original, if they were kept."""


@dataclass(frozen=True)
class Item:
    """A coded image: what to call it, where it comes from, and how to read it."""

    name: str
    source: str
    read: Callable[[], Coded]


class Decompress(Task):
    """x̂ = E[x | symbols]; `source`: a folder of .apc files, one of them, an archive, or codes that were kept;
    `only`: the one image that is wanted, by its name."""

    needs_images = False

    def __init__(self, model: Model, *, source: str = "", only: str = "", tile: int = 0) -> None:
        super().__init__(model)
        self.source, self.only, self.tile = source, only, tile

    def __call__(self, images: ImageSet | None, out: Path | None = None) -> Result:
        """Decode the source, or where there is none, IMAGES after they were compressed; with `out`, a file each.

        "failed" names what could not be read, and why.
        """
        rows: list[Result] = []
        failed: list[Result] = []
        if images is None and holds_codes(self.source):
            return self._kept(out)
        codec, items = self._compressed(images) if images is not None else self._stored()
        for start in range(0, len(items), TOGETHER):
            for item, result in _decode(codec, items[start : start + TOGETHER]):
                if isinstance(result, str):
                    failed.append({"file": item.source, "reason": result})
                    continue
                pixels, white, metadata = result
                if out is not None:
                    # A name may have dots of its own: the ending that is replaced must be ours.
                    written = save_image(pixels, out / f"{item.name}.png", white)
                    if metadata is not None:
                        put_back(written, metadata)
                rows.append({"name": item.name, "height": pixels.shape[1], "width": pixels.shape[2]})
        return {"n": len(rows), "failed": failed, "images": rows, "out": str(out) if out else None}

    def evaluate(self, images: ImageSet) -> Result:
        """As compress measures it."""
        return Compress(self.model).evaluate(images)

    def _kept(self, out: Path | None) -> Result:
        """Decode what apercu encode kept."""
        model, rows = self.model, []
        images = model.images(self.source)
        if self.only and self.only not in images.ids:
            raise ApercuError(f"there is no image {self.only!r} in {self.source}")
        if self.only:
            images = images.subset([list(images.ids).index(self.only)])
        names = names_of(images.ids)
        for batch, output in model.outputs(images, decode=False):
            height, width = batch.x.shape[2:]
            for k, pixels in zip(batch.index.tolist(), model.decode(output.code.z.cpu(), (height, width)), strict=True):
                if out is not None:
                    save_image(pixels, out / f"{names[k]}.png", images.spec.maximum)
                rows.append({"name": names[k], "height": height, "width": width})
        return {"n": len(rows), "failed": [], "images": rows, "out": str(out) if out else None}

    def _compressed(self, images: ImageSet) -> tuple[Codec, list[Item]]:
        if len(images) == 0:
            raise ApercuError("there are no images here to compress and read again")
        codec = Compress(self.model, tile=self.tile).codec(images)
        names = names_of(images.ids)
        pairs = (pair for batch in codec.encode(images) for pair in batch)
        return codec, [Item(names[k], images.ids[k], partial(_itself, coded)) for k, coded in pairs]

    def _stored(self) -> tuple[Codec, list[Item]]:
        source = Path(self.source).expanduser()
        if not self.source or not source.exists():
            raise ApercuError(f"there is no file or folder {self.source!r} to decompress; check the name")
        codec = reading_codec(self.model, self.tile)
        if source.is_dir():
            items = [_item(path, source, codec) for path in sorted(source.rglob(f"*{ENDING}"))]
        elif read_bytes(source, len(ARCHIVE)) == ARCHIVE:
            items = _archived(source, codec)
        else:
            items = [_item(source, source.parent, codec)]
        if not items:
            raise ApercuError(f"there is nothing in {source} to decompress; make {ENDING} files with: apercu compress")
        wanted = [item for item in items if item.name == self.only] if self.only else items
        if not wanted:
            raise ApercuError(f"there is no image {self.only!r} in {source}")
        return codec, wanted


def _itself(coded: Coded) -> Coded:
    return coded


def _item(path: Path, root: Path, codec: Codec) -> Item:
    """The image of one file."""
    name = path.relative_to(root).as_posix().removesuffix(ENDING)
    return Item(name, str(path), lambda: from_file(read_bytes(path), codec.fingerprint))


def _archived(path: Path, codec: Codec) -> list[Item]:
    """The images of an archive."""
    archive = read_archive(path, codec.fingerprint)
    return [Item(name, f"{path}, {name}", partial(archive.read, name)) for name in archive.entries]


def _decode(codec: Codec, items: Sequence[Item]) -> Iterator[tuple[Item, Picture | str]]:
    """The picture of each, or the reason why there is none; what fails does not touch the others."""
    coded: list[tuple[Item, Coded]] = []
    described: list[Metadata | None] = []
    for item in items:
        try:
            image = item.read()
            described.append(Metadata.from_bytes(image.streams[-1]) if image.head.metadata else None)
            coded.append((item, image))
        except FormatError as error:
            yield item, str(error)
    try:
        pixels = codec.decode([image for _, image in coded])
    except (FormatError, MemoryError) as error:
        if len(coded) == 1:
            yield coded[0][0], str(error) or "there is not enough memory to decode it"
            return
        again = [replace(item, read=partial(_itself, image)) for item, image in coded]
        for half in again[: len(again) // 2], again[len(again) // 2 :]:
            yield from _decode(codec, half)
        return
    for (item, image), decoded, metadata in zip(coded, pixels, described, strict=True):
        yield item, (decoded, image.head.maximum, metadata)
