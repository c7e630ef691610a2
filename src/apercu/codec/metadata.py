"""Colour profile and EXIF of an image file: taken from the original, kept in a stream, and put back.

A profile is kept where it describes the channels that are coded; of EXIF what describes the picture, and not how its
file was laid out or turned, for it is coded upright.
"""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

from apercu.checkpoint import write_atomically
from apercu.codec.container import Cursor, varint
from apercu.data.decode import PNG, open_pillow
from apercu.errors import ApercuError, FormatError

KEPT = (
    0x010E, 0x010F, 0x0110, 0x011A, 0x011B, 0x0128, 0x0131, 0x0132, 0x013B, 0x8298, 0x8769, 0x8825,
)  # fmt: skip
"""Description, maker, model, resolution, software, date, artist, copyright, and the EXIF and GPS directories."""
SPACES = {1: b"GRAY", 3: b"RGB "}
LIMIT = 1 << 24


@dataclass(frozen=True)
class Metadata:
    """`profile`: an ICC profile; `exif`: a TIFF header and its directories; empty where there is none."""

    profile: bytes = b""
    exif: bytes = b""

    def to_bytes(self) -> bytes:
        """The stream."""
        return zlib.compress(varint(len(self.profile)) + self.profile + self.exif, 9)

    @classmethod
    def from_bytes(cls, data: bytes) -> Metadata:
        """What `to_bytes` wrote.

        Raises:
            FormatError: it is no such stream.
        """
        inflate = zlib.decompressobj()
        try:
            cursor = Cursor(inflate.decompress(data, LIMIT))
        except zlib.error:
            raise FormatError("its metadata are damaged") from None
        return cls(cursor.take(cursor.varint()), cursor.rest())


def metadata_of(path: Path, channels: int) -> Metadata:
    """What a file says of its picture, of so many channels; nothing where it is no file that Pillow opens."""
    try:
        with open_pillow(path.read_bytes()) as image:
            profile, exif = image.info.get("icc_profile") or b"", image.getexif()
            for tag in set(exif) - set(KEPT):
                del exif[tag]
            known = exif.tobytes().removeprefix(b"Exif\0\0") if len(exif) else b""
    except (OSError, ApercuError, ValueError, SyntaxError, struct.error):
        return Metadata()
    fits = profile[16:20] == SPACES.get(channels)
    found = Metadata(profile if fits else b"", known)
    return found if len(profile) + len(known) < LIMIT else Metadata()


def put_back(path: Path, metadata: Metadata) -> None:
    """Add metadata to a PNG or TIFF that was just written; a TIFF takes the words of EXIF alone."""
    data = path.read_bytes()
    added = _into_png(data, metadata) if data.startswith(PNG) else _into_tiff(data, metadata)
    write_atomically(path, added)


def _into_png(data: bytes, metadata: Metadata) -> bytes:
    """iCCP and eXIf belong between the header, which has 25 bytes, and the pixels."""
    start = len(PNG) + 25
    chunks = _chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(metadata.profile, 9)) if metadata.profile else b""
    chunks += _chunk(b"eXIf", metadata.exif) if metadata.exif else b""
    return data[:start] + chunks + data[start:]


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def _into_tiff(data: bytes, metadata: Metadata) -> bytes:
    import tifffile

    with tifffile.TiffFile(io.BytesIO(data)) as file:
        pixels = file.asarray()
    out = io.BytesIO()
    tifffile.imwrite(
        out,
        pixels,
        photometric="minisblack",
        planarconfig="separate",
        iccprofile=metadata.profile or None,
        extratags=[(tag, "s", 0, text, True) for tag, text in _words(metadata.exif)],
        metadata=None,  # no description and no program of its own beside those of the original
        software=False,
    )
    return out.getvalue()


def _words(exif: bytes) -> list[tuple[int, str]]:
    """What EXIF says in words, by tag."""
    from PIL import Image

    known = Image.Exif()
    try:
        known.load(exif)
    except (SyntaxError, ValueError, struct.error):
        return []
    return [(tag, value) for tag, value in known.items() if isinstance(value, str)]
