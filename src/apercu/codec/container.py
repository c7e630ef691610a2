"""The bytes of a coded image, and of an `.apc` file that holds one; docs/reference/format.md has them one by one."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

from apercu.data.decode import PIXEL_LIMIT
from apercu.errors import FormatError

MAGIC, VERSION = b"APC", 1
FINGERPRINT = 8
PREFIX, CHECK = len(MAGIC) + 1 + FINGERPRINT, 4
MAXIMA = (255.0, 65535.0, 1.0)
LOSSLESS, METADATA, QUALITY = 4, 8, 16


@dataclass(frozen=True)
class Head:
    """What must be known before the streams are read.

    `maximum`: the stored value that means white; `quality`: the operating point of a model that has several, else 0;
    `lossless`: whether a residual stream follows the symbols; `metadata`: whether a colour profile and EXIF follow.
    """

    height: int
    width: int
    channels: int
    maximum: float = 255.0
    quality: int = 0
    lossless: bool = False
    metadata: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.height, self.width

    @property
    def streams(self) -> int:
        """How many streams the image has."""
        return 1 + self.lossless + self.metadata

    def to_bytes(self) -> bytes:
        """Three bytes for a small image of a usual kind."""
        usual = self.maximum in MAXIMA
        flags = (MAXIMA.index(self.maximum) if usual else 3) | (self.channels << 5 if self.channels < 8 else 0)
        flags |= LOSSLESS * self.lossless | METADATA * self.metadata | QUALITY * (self.quality > 0)
        numbers = [self.height, self.width]
        numbers += [] if self.channels < 8 else [self.channels]
        numbers += [] if usual else [int(self.maximum)]
        numbers += [self.quality] if self.quality else []
        return bytes([flags]) + b"".join(map(varint, numbers))


@dataclass(frozen=True)
class Coded:
    """One image as bytes: the symbols of its code, then the residual and the metadata where its head says so."""

    head: Head
    streams: tuple[bytes, ...]

    def payload(self) -> bytes:
        """The streams, with the length of each but the last before it."""
        framed = [varint(len(stream)) + stream for stream in self.streams[:-1]]
        return b"".join([*framed, self.streams[-1]])


class Cursor:
    """Reads bytes from the front, and never past their end."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, count: int) -> bytes:
        """The next `count` bytes.

        Raises:
            FormatError: there are not so many.
        """
        if count > len(self.data) - self.at:
            raise FormatError("it ends too early")
        self.at += count
        return self.data[self.at - count : self.at]

    def rest(self) -> bytes:
        """All bytes that are left."""
        return self.take(len(self.data) - self.at)

    def varint(self) -> int:
        """A number of seven bits a byte, the lowest first; the eighth bit says that more follow.

        Raises:
            FormatError: it ends too early, or is larger than any length here.
        """
        number = 0
        for shift in range(0, 35, 7):
            byte = self.take(1)[0]
            number |= (byte & 127) << shift
            if byte < 128:
                return number
        raise FormatError("it claims an absurd length")


def varint(number: int) -> bytes:
    """A number below 2³⁵ as `Cursor.varint` reads it."""
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def read_head(cursor: Cursor) -> Head:
    """The head that stands here.

    Raises:
        FormatError: it makes no sense, or claims an absurd size.
    """
    flags = cursor.take(1)[0]
    height, width = cursor.varint(), cursor.varint()
    channels = flags >> 5 or cursor.varint()
    maximum = MAXIMA[flags & 3] if flags & 3 < 3 else float(cursor.varint())
    quality = cursor.varint() if flags & QUALITY else 0
    head = Head(height, width, channels, maximum, quality, bool(flags & LOSSLESS), bool(flags & METADATA))
    if not (0 < height * width <= PIXEL_LIMIT and 0 < channels < 1 << 16 and 0 < maximum < 1 << 16):
        raise FormatError("its header claims an absurd image")
    return head


def read_payload(head: Head, payload: bytes) -> Coded:
    """The streams that `Coded.payload` wrote.

    Raises:
        FormatError: they end too early.
    """
    cursor = Cursor(payload)
    framed = [cursor.take(cursor.varint()) for _ in range(head.streams - 1)]
    return Coded(head, (*framed, cursor.rest()))


def to_file(coded: Coded, fingerprint: bytes) -> bytes:
    """The bytes of an `.apc` file, for the model with this fingerprint."""
    data = MAGIC + bytes([VERSION]) + fingerprint + coded.head.to_bytes() + coded.payload()
    return data + checksum(data)


def from_file(data: bytes, fingerprint: bytes) -> Coded:
    """The coded image of an `.apc` file.

    Raises:
        FormatError: not such a file, of another version or model, damaged or truncated; the message is the reason only.
    """
    check_prefix(data, MAGIC, "an .apc file")
    content, check = data[:-CHECK], data[-CHECK:]
    if len(data) < PREFIX + CHECK or checksum(content) != check:
        raise FormatError("it is damaged or truncated: its checksum is wrong")
    check_model(data, fingerprint)
    cursor = Cursor(content)
    cursor.take(PREFIX)
    return read_payload(read_head(cursor), cursor.rest())


def check_prefix(data: bytes, magic: bytes, kind: str) -> None:
    """Refuse what does not begin as files of this kind and version do.

    Raises:
        FormatError: the message is the reason only.
    """
    if not data.startswith(magic):
        raise FormatError(f"it is not {kind}")
    version = data[len(magic)] if len(data) > len(magic) else 0
    if version != VERSION:
        raise FormatError(f"it has version {version} of the format and this Apercu reads {VERSION}; update Apercu")


def check_model(data: bytes, fingerprint: bytes) -> None:
    """Refuse a file that was written with another model.

    Raises:
        FormatError: the message is the reason only.
    """
    if data[PREFIX - FINGERPRINT : PREFIX] != fingerprint:
        raise FormatError("it was written with another model; decompress it with the MODEL that compressed it")


def checksum(*parts: bytes) -> bytes:
    """CRC-32 of the parts together, four bytes, the lowest first."""
    value = 0
    for part in parts:
        value = zlib.crc32(part, value)
    return struct.pack("<I", value)


def read_bytes(path: Path, limit: int | None = None) -> bytes:
    """What a file holds.

    Raises:
        FormatError: it cannot be read; the message is the reason only.
    """
    try:
        with path.open("rb") as file:
            return file.read(-1 if limit is None else limit)
    except OSError as error:
        raise FormatError(f"it cannot be read: {error.strerror}") from None
