"""Write every image as a few bytes, `NAME.apc` each or one archive, which apercu decompress reads.

The symbols of the code are written under a prior that is learnt of them once and kept with the model: from its training
images where they can be opened, else from the images at hand. A run that was stopped goes on where it was.

Example: apercu compress MODEL IMAGES -o OUT
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from apercu import store
from apercu.api import Model
from apercu.codec.archive import MOST
from apercu.codec.codec import EXACT, TABLES, Codec, kept_codec
from apercu.codec.container import Coded, to_file
from apercu.codec.journal import key_of
from apercu.codec.metadata import Metadata, metadata_of
from apercu.codec.names import names_of
from apercu.codec.places import Folder, OneFile, Place, Shelf
from apercu.codec.quality import point_of
from apercu.codec.tables import learn_exact, learn_tables
from apercu.data.images import ImageSet
from apercu.data.survey import digest
from apercu.errors import ApercuError
from apercu.sheet import encode_png
from apercu.tasks._own import own_images
from apercu.tasks.base import Result, Task

__all__ = ["Compress"]

BYTES, SECONDS = 1 << 22, 5.0
Batch = list[tuple[int, Coded]]


class Compress(Task):
    """−Σ log₂ P(symbol) bits an image; `archive`: one file for all; `lossless`: so that every pixel comes back;
    `psnr`: decode at once and measure; `quality`: of a model that has several, from 1, the smallest files, on, and by
    default in the middle; `tile`: compute by tiles of so many pixels a side; `metadata`: the folder of the original
    files, whose colour profiles and EXIF are kept; `steps`: of learning how symbols are written.

    Raises:
        ApercuError: there is no such quality, or tiles are asked for where they cannot be used.
    """

    def __init__(
        self,
        model: Model,
        *,
        archive: str = "",
        lossless: bool = False,
        psnr: bool = False,
        quality: float | None = None,
        tile: int = 0,
        metadata: str = "",
        steps: int = 600,
    ) -> None:
        super().__init__(model)
        self.archive, self.lossless, self.psnr, self.steps = archive, lossless, psnr, steps
        self.quality, self.tile, self.metadata = quality, tile, metadata
        self._point = point_of(model.network, quality)
        if tile and lossless:
            raise ApercuError("a lossless file is written and read whole; leave out --tile or --lossless")
        self._codec: Codec | None = None

    def fit(self, images: ImageSet, held_out: ImageSet | None = None) -> Result:
        """Learn the tables that symbols are written with; kept beside the model if that has a folder.

        Raises:
            ApercuError: it has learnt them before, and files that were written with them would be lost.
        """
        codec = kept_codec(self.model, self.tile)
        if codec is not None and (codec.lossless is not None or not self.lossless):
            raise ApercuError(
                "this model has learnt its tables before, and what was compressed with them could not be read with "
                "others; go on with those, or train another model"
            )
        result: Result = {"images": len(images)}
        if codec is None:
            tables = learn_tables(self.model, images, self.steps)
            codec = Codec(self.model, tables, tile=self.tile)
            self._keep(TABLES, tables, result)
        if self.lossless:
            exact = learn_exact(codec, images, 4 * self.steps)
            codec = codec.with_lossless(exact)
            self._keep(EXACT, exact, result)
        self._codec = codec
        return result

    def _keep(self, name: str, data: bytes, result: Result) -> None:
        """Write tables beside the model, if it has a folder."""
        model = self.model
        result[name] = len(data)
        if model.folder is not None:
            model.recipe.tasks["compress"] = model.recipe.tasks.get("compress", {}) | result
            store.add_file(model.recipe, model.folder, name, data)

    def codec(self, images: ImageSet) -> Codec:
        """The codec of the model; where its tables are not there yet, they are learnt first."""
        self._codec = self._codec or kept_codec(self.model, self.tile)
        if self._codec is None or (self.lossless and self._codec.lossless is None):
            self.fit(own_images(self.model) or images)
        if self._codec is None:
            raise TypeError("fitting makes a codec")
        return self._codec

    def __call__(self, images: ImageSet | None, out: Path | None = None) -> Result:
        """The bytes of every image; with `out`, a `NAME.apc` each; with the setting `archive`, one file."""
        if images is None or len(images) == 0:
            raise ApercuError("there are no images here to compress")
        codec = self.codec(images)
        shelf = self._shelf(codec, images, out)
        todo = shelf.missing() if shelf else list(range(len(images)))
        sizes, decibels = np.zeros(len(images)), []
        for batch in _together(codec.encode(images.subset(todo), self.lossless, self.quality)):
            chosen = [(todo[k], self._described(images.ids[todo[k]], coded)) for k, coded in batch]
            if shelf is not None:
                shelf.put(chosen)
            for k, coded in chosen:
                sizes[k] = len(to_file(coded, codec.fingerprint))
            decibels += _psnr(codec, images, chosen) if self.psnr else []
        sizes = np.array(shelf.sizes()) if shelf else sizes
        result: Result = {
            "n": len(images),
            "written": len(todo),
            "there_already": len(images) - len(todo),
            "bytes": round(float(sizes.sum())),
            "bytes_per_image": float(sizes.mean()),
            "bits_per_pixel": float(8 * sizes.sum() / images.sizes.prod(1).sum()),
        }
        result |= {"psnr": float(np.mean(decibels))} if decibels else {}
        rows = zip(images.ids, names_of(images.ids), sizes.round(1).tolist(), strict=True)
        result["images"] = [{"id": image_id, "name": name, "bytes": size} for image_id, name, size in rows]
        return result | {"out": self.archive or (str(out) if out else None)}

    def evaluate(self, images: ImageSet) -> Result:
        """Bytes of a file, bits a pixel and a symbol, and PSNR (dB) of what is read back; beside them PNG, and symbols
        that are packed without a prior."""
        codec = self.codec(images)
        sizes, bits, symbols, decibels, png = [], 0, 0, [], []
        for batch in codec.encode(images, self.lossless, self.quality):
            sizes += [len(to_file(coded, codec.fingerprint)) for _, coded in batch]
            read = codec.read_symbols([coded for _, coded in batch])
            symbols += read.numel()
            bits += 8 * sum(len(coded.streams[0]) for _, coded in batch)
            decibels += _psnr(codec, images, batch)
            png += [_png(images.read([k])[0]) for k, _ in batch]
        alphabet = codec.symbols.alphabet
        plain = sum(math.log2(count) for count in alphabet) / len(alphabet)
        whole = [size for size in png if size is not None]
        return {
            "n": len(images),
            "bytes": float(np.mean(sizes)),
            "png_bytes": float(np.mean(whole)) if whole else None,
            "bits_per_pixel": 8 * sum(sizes) / float(images.sizes.prod(1).sum()),
            "bits_per_symbol": bits / symbols,
            "bits_per_symbol_plain": plain,
            "psnr": float(np.mean(decibels)),
        }

    def _described(self, image_id: str, coded: Coded) -> Coded:
        """With the metadata of the original file, if they are to be kept and there are some."""
        found = metadata_of(Path(self.metadata) / image_id, coded.head.channels) if self.metadata else Metadata()
        if found == Metadata():
            return coded
        return Coded(replace(coded.head, metadata=True), (*coded.streams, found.to_bytes()))

    def _shelf(self, codec: Codec, images: ImageSet, out: Path | None) -> Shelf | None:
        """Where the images go, if they are to be written."""
        place: Place
        if self.archive:
            place = OneFile(Path(self.archive), codec.fingerprint)
        elif out is not None:
            place = Folder(out, codec.fingerprint)
        else:
            return None
        # Of the pixels as they are written: the digests that a set has are of its files, before they were resized.
        pixels = (images.read([k])[0] for k in range(len(images)))
        how = f"{self.lossless}" + f", quality {self._point}" * (self._point > 0) + ", metadata" * bool(self.metadata)
        keys = [key_of(codec.fingerprint, how, digest(image)) for image in pixels]
        return Shelf(place, names_of(images.ids), keys)


def _together(batches: Iterator[Batch]) -> Iterator[Batch]:
    """Coded images, as many as are kept at a time: a file is written now and then, and little is lost to a kill."""
    waiting: Batch = []
    since = time.monotonic()
    for batch in batches:
        waiting += batch
        size = sum(len(stream) for _, coded in waiting for stream in coded.streams)
        if len(waiting) + len(batch) > MOST or size > BYTES or time.monotonic() - since > SECONDS:
            yield waiting
            waiting, since = [], time.monotonic()
    if waiting:
        yield waiting


def _psnr(codec: Codec, images: ImageSet, batch: Batch) -> list[float]:
    """PSNR of what is read back, in dB, at most 100."""
    values = []
    for (k, _), decoded in zip(batch, codec.decode([coded for _, coded in batch]), strict=True):
        error = (decoded - images.read([k])[0].astype(np.float64)) / images.spec.maximum
        values.append(float(-10 * np.log10(max(np.square(error).mean(), 1e-10))))
    return values


def _png(pixels: NDArray[np.generic]) -> int | None:
    fits = len(pixels) in (1, 3) and pixels.dtype.kind == "u"
    return len(encode_png(pixels)) if fits else None
