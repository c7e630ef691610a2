"""Where coded images are kept: a folder with a file for each, or one archive."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from apercu.codec.archive import read_archive
from apercu.codec.container import Coded, from_file, read_bytes, to_file
from apercu.codec.journal import Journal
from apercu.errors import FormatError

ENDING, ARCHIVE_ENDING = ".apc", ".apca"


class Place(Protocol):
    """Coded images by name."""

    journal: Path

    def holds(self, name: str) -> bool:
        """Whether the image of this name is there, undamaged, for this model."""

    def put(self, images: Sequence[tuple[str, Coded]]) -> None:
        """Keep images, each whole or not at all."""

    def sizes(self, names: Sequence[str]) -> list[float]:
        """How many bytes each image takes."""


class Shelf:
    """What of some images is in its place already, and the rest as it comes; `keys`: what each image and how it is
    written come to."""

    def __init__(self, place: Place, names: Sequence[str], keys: Sequence[str]) -> None:
        self.place, self.names, self.keys = place, names, keys
        self._journal = Journal(place.journal)

    def missing(self) -> list[int]:
        """The images that are not there, or are damaged, or were others."""
        pairs = enumerate(zip(self.names, self.keys, strict=True))
        return [k for k, (name, key) in pairs if not (self._journal.has(name, key) and self.place.holds(name))]

    def put(self, images: Sequence[tuple[int, Coded]]) -> None:
        """Keep some of the images, by their position, and note it."""
        self.place.put([(self.names[k], coded) for k, coded in images])
        self._journal.add((self.names[k], self.keys[k]) for k, _ in images)

    def sizes(self) -> list[float]:
        """How many bytes each image takes."""
        return self.place.sizes(self.names)


class Folder:
    """NAME.apc for each image."""

    def __init__(self, path: Path, fingerprint: bytes) -> None:
        self.path, self.fingerprint = path, fingerprint
        path.mkdir(parents=True, exist_ok=True)
        self.journal = path / ".compressed"

    def file(self, name: str) -> Path:
        """Where the image of this name is."""
        return self.path / f"{name}{ENDING}"

    def holds(self, name: str) -> bool:
        """Whether its file is there and can be read."""
        try:
            from_file(read_bytes(self.file(name)), self.fingerprint)
        except FormatError:
            return False
        return True

    def put(self, images: Sequence[tuple[str, Coded]]) -> None:
        """Write a file for each."""
        for name, coded in images:
            path = self.file(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            # Renamed into place, so whole for every reader, but not flushed to the disk one by one, which takes longer
            # than all else: after a power failure a file can be empty, which is noticed and mended.
            partial = path.with_name(f".{path.name}.partial")
            partial.write_bytes(to_file(coded, self.fingerprint))
            partial.replace(path)

    def sizes(self, names: Sequence[str]) -> list[float]:
        """The size of each file."""
        return [self.file(name).stat().st_size for name in names]


class OneFile:
    """An archive."""

    def __init__(self, path: Path, fingerprint: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.journal = path.with_name(f".{path.name}.compressed")
        self.archive = read_archive(path, fingerprint)

    def holds(self, name: str) -> bool:
        """Whether it is in the archive and undamaged."""
        try:
            return name in self.archive.entries and bool(self.archive.read(name))
        except FormatError:
            return False

    def put(self, images: Sequence[tuple[str, Coded]]) -> None:
        """Append them as one segment."""
        self.archive.append(images)

    def sizes(self, names: Sequence[str]) -> list[float]:
        """The payload of each and its share of everything else in the file."""
        entries = self.archive.entries
        rest = self.path.stat().st_size - sum(entry.length for entry in entries.values()) if entries else 0
        return [entries[name].length + rest / len(entries) for name in names]
