"""Encode: the codes of many images kept in a table, new and changed images only, a thousand at a time.

What is in the table stays there whatever stops the program, and the next run goes on behind it. Under `torchrun` every
process encodes its share and appends it to the same table.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Iterator
from math import isqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from apercu.api import Model, batch_size
from apercu.checkpoint import write_atomically
from apercu.claims import alone
from apercu.codes.store import EXACT
from apercu.codes.table import ABOUT, ROWS, About, Table, read_about
from apercu.data.duplicates import thumbnails
from apercu.data.images import ImageSet, Problem
from apercu.data.listing import Entry, Listing
from apercu.errors import ApercuError
from apercu.heads import pooled, pooled_size
from apercu.types import Code

if TYPE_CHECKING:
    import pyarrow as pa

CHUNK = 1000
SECONDS = 20.0
MEMORY = 1 << 28
"""Images that are opened together; after so long they are written whatever their number; bytes of pixels at a time."""
FACTS = ("label", "split", "modified", "bytes")

Progress = Callable[[int, int], None]
Facts = tuple[str | None, str, int | None, int | None]


def encode(
    model: Model,
    images: object,
    out: str | Path,
    *,
    size: str | int | None = None,
    fit: str | None = None,
    channels: int | None = None,
    prune: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Keep the codes of `images` in the folder `out`, and return what was done; `apercu.Codes` opens it.

    An image is encoded where its file has another date or size than when it was encoded, and then its pixels are others
    too. `size`, `fit`, `channels`: as in `open_images`, where not as the model's own images were opened; `prune`: drop
    the rows of images that are gone; `progress`: called with (images done, images in all).

    Raises:
        ApercuError: the images cannot be opened or are not the model's kind, the folder has other codes, or another run
            is writing to it.
    """
    listing = Listing(images)
    about = _about(model, listing, _origin(images), {"size": size, "fit": fit, "channels": channels})
    folder = Path(out).expanduser()
    _check(folder, about)
    share = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    with alone(folder, *share):
        table = Table(folder, about.vector)
        write_atomically(folder / ABOUT, about.to_bytes())
        return _Run(model, listing, about, table, share, progress).all(prune) | {"out": str(out)}


class _Run:
    """One process at work; `share`: its number, and how many there are."""

    def __init__(
        self,
        model: Model,
        listing: Listing,
        about: About,
        table: Table,
        share: tuple[int, int],
        progress: Progress | None,
    ) -> None:
        self.model, self.listing, self.about, self.table, self.progress = model, listing, about, table, progress
        self.rank, self.processes = share
        known = table.read(["id", "hash", *FACTS])
        facts = zip(*(known[name].to_pylist() for name in FACTS), strict=True)
        self.facts: dict[str, Facts] = dict(zip(known["id"].to_pylist(), facts, strict=True))
        self.hashes: dict[str, bytes] = dict(zip(known["id"].to_pylist(), known["hash"].to_pylist(), strict=True))
        self.failed: list[Problem] = []
        self.count = {"new": 0, "changed": 0}

    def all(self, prune: bool) -> dict[str, Any]:
        """Everything that there is to do for this process."""
        entries = self.listing.entries
        seen = {entry.id: _facts(entry) for entry in entries}
        # Whose share an image is does not depend on what is in the table already, which changes under way.
        mine = [row for row in range(len(entries)) if row // CHUNK % self.processes == self.rank]
        todo = [row for row in mine if entries[row].file is None or self._changed(seen, entries[row].id)]
        step = _together(self.model)
        for start in range(0, len(todo), step):
            self._chunk(todo[start : start + step], seen)
            if self.progress:
                self.progress(min(start + step, len(todo)), len(todo))
        gone = [name for name in self.facts if name not in seen]
        dropped = self._prune(gone) if prune and self.rank == 0 else 0
        if self.processes == 1:
            self._finish()
        unchanged = len(mine) - sum(self.count.values()) - len(self.failed)
        failed = [{"file": problem.id, "reason": problem.reason} for problem in self._problems()]
        left = {"gone": len(gone) - dropped, "pruned": dropped}
        return {"n": len(self.table), **self.count, "unchanged": unchanged, **left, "failed": failed}

    def _changed(self, seen: dict[str, Facts], name: str) -> bool:
        return self.facts.get(name) != seen[name]

    def _problems(self) -> list[Problem]:
        return [*(self.listing.found.problems if self.rank == 0 else []), *self.failed]

    def _chunk(self, rows: list[int], seen: dict[str, Facts]) -> None:
        """Encode what of these images is new or changed; of the others note their new date, label and split."""
        entries = self.listing.entries
        images, read, problems = self.listing.open(rows, **self.about.opening, memory=MEMORY)
        self.failed += problems
        if images is None:
            return
        rows_of = dict(zip(images.ids, read, strict=True))
        images, others = self.model.of_size(images)
        self.failed += others
        if not len(images):
            return
        images = self.model.images(images)
        read = [rows_of[name] for name in images.ids]
        names = [entries[row].id for row in read]
        same = [self.hashes.get(name) == bytes(digest) for name, digest in zip(names, images.hashes, strict=True)]
        touched = [name for name, alike in zip(names, same, strict=True) if alike and self._changed(seen, name)]
        self.table.replace(_facts_table(self.table.schema, touched, seen))
        fresh = np.flatnonzero(~np.array(same))
        places = np.array(read)[fresh]
        for found in self._encoded(images.subset(fresh), places, seen):
            known = np.array([name in self.facts for name in found["id"].to_pylist()])
            self.table.add(found.filter(~known))
            self.table.replace(found.filter(known))
            self.count["new"] += int((~known).sum())
            self.count["changed"] += int(known.sum())

    def _encoded(self, images: ImageSet, places: NDArray[np.int64], seen: dict[str, Facts]) -> Iterator[pa.Table]:
        """Rows as they are to be written: all, or what there is after a while."""
        import pyarrow as pa

        waiting: list[pa.Table] = []
        since = time.monotonic()
        for batch, output, price in self.model.glances(images):
            index = batch.index.cpu().numpy()
            vectors = pooled(output.code).float().cpu().numpy()
            some = images.subset(index)
            if vectors.shape[1] != self.about.vector:
                reason = f"it is so small that its code has {vectors.shape[1]} numbers and not {self.about.vector}"
                self.failed += [Problem(name, reason) for name in some.ids]
                continue
            thumbs = thumbnails(batch.x.cpu().numpy(), 1.0)
            values = _values(some, [self.listing.entries[row] for row in places[index].tolist()], seen)
            values |= {
                "place": places[index],
                "thumb": [thumb.tobytes() for thumb in thumbs],
                "price": price.float().cpu().numpy(),
                "code": _bytes(output.code, self.about.kind),
                "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1]),
            }
            waiting.append(pa.table(values, self.table.schema))
            if time.monotonic() - since > SECONDS:
                yield pa.concat_tables(waiting)
                waiting, since = [], time.monotonic()
        if waiting:
            yield pa.concat_tables(waiting)

    def _prune(self, gone: list[str]) -> int:
        if self.listing.found.problems:
            raise ApercuError(
                f"nothing was dropped, for not all images could be listed ({self.listing.found.problems[0]}); mend "
                "that first, or leave out --prune"
            )
        self.table.drop(gone)
        return len(gone)

    def _finish(self) -> None:
        """Tidy up; where there are many rows, make the index, or take the new ones into it."""
        self.table.tidy()
        if len(self.table) > EXACT and not self.table.indexed:
            self.table.index(isqrt(len(self.table)))


def _about(model: Model, listing: Listing, origin: str, asked: dict[str, Any]) -> About:
    """What the table is to hold."""
    usual = model.recipe.data.get("request", {})
    spec, network = model.recipe.image, model.network
    opening = {name: asked[name] or usual.get(name) for name in asked}
    # A thousand grey images are no reason to refuse them, where others of the set have colour.
    opening["channels"] = opening["channels"] or (spec.channels if spec.channels > 1 else None)
    opening["fit"] = opening["fit"] or "error"
    alphabet, dim = network.bottleneck.alphabet, network.bottleneck.dim
    grid = network.grid((spec.height, spec.width))
    kind = np.dtype(np.min_scalar_type(max(alphabet) - 1)).str if alphabet else "" if network.encoder.vector else "<f4"
    return About(
        fingerprint=model.fingerprint,
        model="" if model.folder is None else str(model.folder.expanduser().resolve()),
        preset=model.recipe.preset,
        origin=origin,
        opening=opening,
        channels=spec.channels,
        kind=kind,
        width=len(alphabet) or dim,
        vector=pooled_size(dim, grid),
        classes=list(listing.found.classes),
    )


def _origin(images: object) -> str:
    """How the images can be opened again, "" where only this program has them."""
    if not isinstance(images, str | Path):
        return ""
    path = Path(images).expanduser()
    return str(path.resolve()) if path.exists() else str(images)


def _check(folder: Path, about: About) -> None:
    """Refuse to mix codes of other models or images with those that are there."""
    if not (folder / ABOUT).is_file():
        inside = [path.name for path in folder.iterdir()] if folder.is_dir() else []
        if folder.is_file() or (ROWS not in inside and any(not name.startswith(".") for name in inside)):
            raise ApercuError(f"{folder} holds something else; name a new folder with -o")
        return
    there = read_about(folder)
    if there.fingerprint != about.fingerprint:
        raise ApercuError(f"{folder} holds codes of another model, or of this one before it changed; name a new folder")
    if there.origin != about.origin:
        raise ApercuError(f"{folder} holds the codes of {there.origin or 'arrays'}; name a new folder for other images")
    if there.opening != about.opening:
        before = ", ".join(f"{name} {value}" for name, value in there.opening.items() if value)
        raise ApercuError(f"{folder} holds the same images opened with {before}; name a new folder, or open them so")
    if dataclasses.replace(there, classes=[], model="") != dataclasses.replace(about, classes=[], model=""):
        raise ApercuError(f"{folder} holds codes of another layout; name a new folder")


def _together(model: Model) -> int:
    """Images to open together: whole batches, so that codes do not depend on where a chunk ends."""
    size = batch_size(model.recipe.image)
    return -(-CHUNK // size) * size


def _facts(entry: Entry) -> Facts:
    """What tells without opening an image that it is as it was."""
    if entry.file is None:
        return entry.label, entry.split, None, None
    try:
        about = entry.file.stat()
    except OSError:  # opening it will say why
        return entry.label, entry.split, None, None
    return entry.label, entry.split, about.st_mtime_ns, about.st_size


def _facts_table(schema: pa.Schema, names: list[str], seen: dict[str, Facts]) -> pa.Table:
    import pyarrow as pa

    facts = list(zip(*(seen[name] for name in names), strict=True)) or [()] * len(FACTS)
    some = pa.schema([schema.field(name) for name in ("id", *FACTS)])
    return pa.table({"id": names} | dict(zip(FACTS, facts, strict=True)), some)


def _values(images: ImageSet, entries: list[Entry], seen: dict[str, Facts]) -> dict[str, Any]:
    """What is known of images without their code."""
    spec, count = images.spec, len(images)
    names = [entry.id for entry in entries]
    facts = zip(*(seen[name] for name in names), strict=True)
    return {
        "id": names,
        "path": [None if entry.file is None else str(entry.file) for entry in entries],
        **dict(zip(FACTS, facts, strict=True)),
        "hash": [bytes(digest) for digest in images.hashes],
        "height": images.sizes[:, 0].astype(np.int32),
        "width": images.sizes[:, 1].astype(np.int32),
        "channels": np.full(count, spec.channels, np.int32),
        "depth": np.full(count, 8 * np.dtype(spec.dtype).itemsize, np.int32),
        "white": np.full(count, spec.maximum, np.float32),
    }


def _bytes(code: Code, kind: str) -> list[bytes | None]:
    """The whole code of each image: its symbols, or its numbers; None where the vector is all of it."""
    if not kind:
        return [None] * len(code.z)
    values = code.mean.float() if code.symbols is None else code.symbols
    return [row.tobytes() for row in values.cpu().numpy().astype(kind)]
