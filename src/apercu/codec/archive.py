"""Many coded images in one file, read by name, appended to without rewriting; docs/reference/format.md has the bytes.

    header   magic, version, fingerprint, two slots
    segment  payloads, index, trailer        (one for every append)
    …

A slot holds where the last segment ends. An append writes its segment behind that, flushes it to the disk, and only
then overwrites the older slot: whatever stops it, the other slot still names the archive as it was. A segment is
found from its end, and so is the one before it.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from apercu.checkpoint import write_atomically
from apercu.claims import claimed
from apercu.codec.container import (
    CHECK,
    PREFIX,
    VERSION,
    Coded,
    Cursor,
    Head,
    check_model,
    check_prefix,
    checksum,
    read_head,
    read_payload,
    varint,
)
from apercu.codec.names import is_safe
from apercu.errors import FormatError

MAGIC = b"APA"
SLOT, TRAILER = 8 + CHECK, 12 + CHECK
START = PREFIX + 2 * SLOT
MOST, INDEX_LIMIT = 1000, 1 << 21
"""Images of a segment, and bytes of its index when it is inflated, at most."""
PATIENCE = 60.0
"""Seconds to wait for another process, which needs far less for a segment."""


@dataclass(frozen=True)
class Entry:
    """Where the payload of an image stands, and what its bytes must add up to."""

    head: Head
    offset: int
    length: int
    check: bytes


class Archive:
    """The images of an archive by name; where a name was written twice, the later one counts.

    A file that is not there yet is an archive without images, and the first append makes it.
    """

    def __init__(self, path: Path, fingerprint: bytes) -> None:
        """Read the index.

        Raises:
            FormatError: not an archive, of another version or model, damaged or truncated; the message is the reason.
        """
        self.path, self.fingerprint = path, fingerprint
        self.entries: dict[str, Entry] = {}
        if path.exists():
            with path.open("rb") as file:
                segments, end = [], self._end(file)
                while end > START:
                    start = _segment(file, end)
                    segments.append((start, end))
                    end = start
                for start, end in reversed(segments):
                    self.entries |= _index(file, start, end)

    def read(self, name: str) -> Coded:
        """The image of this name.

        Raises:
            FormatError: its bytes are damaged; the message is the reason only.
            KeyError: there is no such image.
        """
        entry = self.entries[name]
        with self.path.open("rb") as file:
            payload = _at(file, entry.offset, entry.length)
        if self._check(name, entry.head, payload) != entry.check:
            raise FormatError("it is damaged: its checksum is wrong")
        return read_payload(entry.head, payload)

    def append(self, images: Sequence[tuple[str, Coded]]) -> None:
        """Add at most `MOST` images as one segment: after this all of them are there, before it none.

        Several processes may append; each waits for its turn.
        """
        if len(images) > MOST:
            raise ValueError(f"a segment holds at most {MOST} images")
        if not all(is_safe(name) for name, _ in images):
            raise ValueError("a name leads out of the folder, or is none on some system")
        with claimed(self.path.with_name(f".{self.path.name}.lock"), self.path, PATIENCE):
            self._append(images)

    def _append(self, images: Sequence[tuple[str, Coded]]) -> None:
        if not self.path.exists():
            prefix = MAGIC + bytes([VERSION]) + self.fingerprint
            write_atomically(self.path, prefix + 2 * _slot(prefix, START))
        with self.path.open("r+b") as file:
            start = self._end(file)
            file.seek(start)
            file.write(self._segment(images))
            file.truncate()
            end = file.tell()
            _flush(file)
            header = _at(file, 0, START)
            older = min((0, 1), key=lambda number: _read_slot(header, number) or 0)
            file.seek(PREFIX + older * SLOT)
            file.write(_slot(header, end))
            _flush(file)
            self.entries |= _index(file, start, end)

    def _segment(self, images: Sequence[tuple[str, Coded]]) -> bytes:
        payloads = [coded.payload() for _, coded in images]
        pairs = list(zip(images, payloads, strict=True))
        names = "\n".join(name for name, _ in images).encode()
        table = varint(len(images)) + varint(len(names)) + names
        table += b"".join(coded.head.to_bytes() for _, coded in images)
        table += b"".join(varint(len(payload)) for payload in payloads)
        index = zlib.compress(table, 9)
        index += b"".join(self._check(name, coded.head, payload) for (name, coded), payload in pairs)
        lengths = struct.pack("<QI", sum(map(len, payloads)), len(index))
        return b"".join([*payloads, index, lengths, checksum(index, lengths)])

    def _check(self, name: str, head: Head, payload: bytes) -> bytes:
        return checksum(self.fingerprint, name.encode(), head.to_bytes(), payload)

    def _end(self, file: BinaryIO) -> int:
        """Where the last segment ends."""
        header = _at(file, 0, min(START, _size(file)))
        check_prefix(header, MAGIC, "an archive of Apercu")
        if len(header) < START:
            raise FormatError("it is truncated")
        ends = [end for end in (_read_slot(header, 0), _read_slot(header, 1)) if end is not None]
        check_model(header, self.fingerprint)
        size = _size(file)
        if not ends:
            raise FormatError("it is damaged: its header makes no sense")
        if len(ends) == 2:
            if max(ends) > size:
                raise FormatError("it is truncated")
            return max(ends)
        # A write that was stopped in the midst of a slot has its whole segment in place: then that is the last one.
        if _segment(file, size) != ends[0]:
            raise FormatError("it is damaged: its header makes no sense")
        return size


def read_archive(path: Path, fingerprint: bytes) -> Archive:
    """The archive of this name.

    Raises:
        FormatError: as `Archive`; the message names the file.
    """
    try:
        return Archive(path, fingerprint)
    except FormatError as error:
        raise FormatError(f"{path}: {error}") from None


def _index(file: BinaryIO, start: int, end: int) -> dict[str, Entry]:
    """The entries of the segment between `start` and `end`."""
    content, length = struct.unpack("<QI", _at(file, end - TRAILER, 12))
    inflate = zlib.decompressobj()
    try:
        cursor = Cursor(inflate.decompress(_at(file, start + content, length), INDEX_LIMIT))
    except zlib.error:
        raise FormatError("its index is damaged") from None
    checks, offset, entries = Cursor(inflate.unused_data), start, {}
    count = cursor.varint()
    names = cursor.take(cursor.varint()).decode("utf-8", "replace").split("\n")
    if len(names) != count or len(checks.data) != CHECK * count or not all(map(is_safe, names)):
        raise FormatError("its index makes no sense")
    heads = [read_head(cursor) for _ in names]
    for name, head in zip(names, heads, strict=True):
        entries[name] = Entry(head, offset, cursor.varint(), checks.take(CHECK))
        offset += entries[name].length
    if offset != start + content:
        raise FormatError("its index makes no sense")
    return entries


def _segment(file: BinaryIO, end: int) -> int:
    """Where the segment that ends here starts."""
    if end - TRAILER < START:
        raise FormatError("its index is damaged")
    trailer = _at(file, end - TRAILER, TRAILER)
    content, length = struct.unpack("<QI", trailer[:12])
    start: int = end - TRAILER - length - content
    if start < START or checksum(_at(file, start + content, length), trailer[:12]) != trailer[12:]:
        raise FormatError("its index is damaged")
    return start


def _slot(header: bytes, end: int) -> bytes:
    number = struct.pack("<Q", end)
    return number + checksum(header[:PREFIX], number)


def _read_slot(header: bytes, number: int) -> int | None:
    """Where the slot says that the last segment ends; None for a slot that was not written whole."""
    slot = header[PREFIX + number * SLOT :][:SLOT]
    (end,) = struct.unpack("<Q", slot[:8])
    return int(end) if slot == _slot(header, end) else None


def _at(file: BinaryIO, offset: int, length: int) -> bytes:
    """`length` bytes, of which the file must have so many."""
    if offset + length > _size(file):
        raise FormatError("it is truncated")
    file.seek(offset)
    return file.read(length)


def _size(file: BinaryIO) -> int:
    return os.fstat(file.fileno()).st_size


def _flush(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
