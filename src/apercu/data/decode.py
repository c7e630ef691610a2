"""Bytes of an image file to what a person sees: upright, on white, grey or RGB, at the depth it was stored with."""

from __future__ import annotations

import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from apercu.data.convert import plain
from apercu.errors import ApercuError

if TYPE_CHECKING:
    from PIL import Image

# Formats that are images and nothing else: EPS and its kin run programs.
FORMATS = (
    "PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP", "DIB", "AVIF", "JPEG2000", "PPM", "TGA", "ICO", "ICNS",
    "PCX", "SGI", "QOI", "DDS",
)  # fmt: skip
EXTENSIONS = frozenset({
    ".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".webp", ".tif", ".tiff", ".gif", ".bmp", ".dib",
    ".avif", ".jp2", ".j2k", ".jpx", ".jpf", ".pbm", ".pgm", ".ppm", ".pnm", ".tga", ".ico", ".icns", ".pcx", ".sgi",
    ".qoi", ".dds", ".heic", ".heif",
})  # fmt: skip
PIXEL_LIMIT = 178_956_970  # as Pillow has it
PNG = b"\x89PNG\r\n\x1a\n"
DEFLATE_LIMIT = 1100  # one byte of deflate cannot become more


@dataclass(frozen=True)
class Decoded:
    """One image, (C, H, W), uint8, uint16 or float32, and what was done to show it."""

    pixels: NDArray[Any]
    remarks: tuple[str, ...] = ()


def decode_file(path: str | Path) -> Decoded:
    """Read and decode one file.

    Raises:
        ApercuError: it cannot be read; the message is the reason only.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise ApercuError("not a regular file")
        return decode(Path(path).read_bytes())
    except FileNotFoundError:
        broken = os.path.islink(path)
        raise ApercuError("a link to nothing" if broken else "there is no such file") from None
    except PermissionError:
        raise ApercuError("no permission to read it") from None
    except OSError as error:
        raise ApercuError(f"it cannot be read: {error.strerror or error}") from None


def decode(data: bytes) -> Decoded:
    """Decode the bytes of one image file.

    Raises:
        ApercuError: they are not an image, damaged, or claim an absurd size; the message is the reason only.
    """
    if not data:
        raise ApercuError("the file is empty")
    with _damage_named():
        decoded = _decode(data)
    if decoded.pixels.ndim != 3 or decoded.pixels.size == 0:
        raise ApercuError("damaged: it holds no pixels")
    return decoded


def decode_pillow(image: Image.Image) -> Decoded:
    """Decode an image that Pillow opened, upright.

    Raises:
        ApercuError: it is damaged; the message is the reason only.
    """
    with _damage_named():
        orientation = int(image.getexif().get(0x0112, 1) or 1)
        return upright(from_pillow(image), orientation)


@contextmanager
def _damage_named() -> Iterator[None]:
    try:
        yield
    except ApercuError:
        raise
    except MemoryError:
        raise ApercuError("there is not enough memory to decode it") from None
    except Exception as error:  # decoders raise anything at all on damaged bytes
        text = " ".join(str(error).split())[:200]
        raise ApercuError(f"damaged: {text}" if " " in text else "damaged: it cannot be decoded") from error


def _decode(data: bytes) -> Decoded:
    if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        from apercu.data.decode_tiff import decode_tiff

        return decode_tiff(data)
    if data.startswith(PNG):
        _verify_png(data)
    if data[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftypheim"):
        raise ApercuError("HEIC is not supported: save it as JPEG or PNG")
    with open_pillow(data) as image:
        orientation = int(image.getexif().get(0x0112, 1) or 1)
        if image.format == "PNG" and data[24] == 16:
            decoded = _decode_wide(data, "png_decode")
        elif image.format == "JPEG2000" and _jp2_is_wide(data):
            decoded = _decode_wide(data, "jpeg2k_decode")
        elif image.format == "PPM" and data[:2] in (b"P6", b"P3") and _ppm_maximum(data) > 255:
            raise ApercuError("16-bit colour PPM is not supported: save it as PNG or TIFF")
        else:
            decoded = _decode_jpeg(data, image) or from_pillow(image)
    return upright(decoded, orientation)


def open_pillow(data: bytes) -> Image.Image:
    """Pillow's image, its header read, its pixels not.

    Raises:
        ApercuError: not an image of a known format, or one that claims an absurd size.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        image = Image.open(BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        raise ApercuError("not an image of a known format") from None
    except Image.DecompressionBombError:
        raise ApercuError(f"its header claims an absurd size, more than {PIXEL_LIMIT} pixels") from None
    check_claim(*image.size)
    return image


def check_claim(width: int, height: int) -> None:
    """Refuse a size before memory is taken for it.

    Raises:
        ApercuError: more pixels than any sensible image has.
    """
    if width * height > PIXEL_LIMIT:
        raise ApercuError(f"its header claims an absurd size, {height}×{width} pixels")


def _verify_png(data: bytes) -> None:
    """Check what Pillow does not: the sums of the pixels' chunks, and that so few bytes can hold so many pixels."""
    at = len(PNG)
    while at + 12 <= len(data):
        length, name = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        end = at + 8 + length
        # A lower-case name is of a chunk that can be missed.
        if name[:1].isupper() and zlib.crc32(data[at + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            raise ApercuError("damaged or truncated: a checksum is wrong")
        if name == b"IHDR":
            width, height = (int.from_bytes(data[at + k : at + k + 4], "big") for k in (8, 12))
            check_claim(width, height)
            bits = data[at + 16] * {2: 3, 4: 2, 6: 4}.get(data[at + 17], 1)
            if width * height * bits // 8 > DEFLATE_LIMIT * len(data):
                raise ApercuError(f"its header claims {height}×{width} pixels, more than its bytes can hold")
        if name == b"IEND":
            return
        at = end + 4
    raise ApercuError("truncated: it ends before its last chunk")


def _jp2_is_wide(data: bytes) -> bool:
    # The SIZ marker holds, 40 bytes on, each component's depth minus one.
    start = data.find(b"\xff\x4f\xff\x51")
    return start >= 0 and (data[start + 42] & 0x7F) + 1 > 8


def _ppm_maximum(data: bytes) -> int:
    words = [w for line in data[:512].split(b"\n") for w in line.split(b"#")[0].split()]
    return int(words[3])


def _decode_wide(data: bytes, decoder: str) -> Decoded:
    # Pillow cuts 16-bit colour to 8 bits without a word.
    import imagecodecs

    pixels = getattr(imagecodecs, decoder)(data)
    planes = pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)
    if len(planes) in (2, 4):
        return on_white(planes)
    return Decoded(np.ascontiguousarray(plain(planes, wide=True)))


@cache
def _simplejpeg() -> ModuleType | None:
    try:
        import simplejpeg
    except ImportError:
        return None
    module: ModuleType = simplejpeg
    return module


def _decode_jpeg(data: bytes, image: Image.Image) -> Decoded | None:
    simplejpeg = _simplejpeg()
    if simplejpeg is None or image.format != "JPEG" or image.mode not in ("L", "RGB"):
        return None
    try:
        pixels = simplejpeg.decode_jpeg(data, "GRAY" if image.mode == "L" else "RGB")
    except ValueError:  # Pillow has the last word on what is damaged
        return None
    return Decoded(np.ascontiguousarray(np.moveaxis(pixels, -1, 0)))


def from_pillow(image: Image.Image) -> Decoded:
    """What a Pillow image shows, its first frame only.

    Raises:
        ApercuError: a mode that is not an image's, or values outside the range of its type.
    """
    remarks: tuple[str, ...] = ()
    if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
        remarks = ("only the first of several frames was read",)
    mode = image.mode
    if mode.startswith("I") or mode == "F":
        return Decoded(plain(np.asarray(image)[None], wide=True), remarks)
    if mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        grey_mode = mode in ("1", "L", "LA", "La")
        image = image.convert("LA" if grey_mode else "RGBA")
        shown = on_white(np.moveaxis(np.asarray(image), -1, 0))
        pixels, remarks = shown.pixels, remarks + shown.remarks
    elif mode in ("1", "L"):
        pixels = np.asarray(image.convert("L"))[None]
    else:
        if mode not in ("RGB", "P"):
            remarks = (*remarks, f"{mode} was converted to RGB")
        pixels = np.moveaxis(np.asarray(image.convert("RGB")), -1, 0)
    if mode in ("P", "PA") and (pixels[0] == pixels[1]).all() and (pixels[0] == pixels[2]).all():
        pixels = pixels[:1]
    return Decoded(np.ascontiguousarray(pixels), remarks)


def on_white(planes: NDArray[Any], *, premultiplied: bool = False) -> Decoded:
    """(C + 1, H, W) with alpha last → (C, H, W) on white, exact where alpha is full; uint8 or uint16.

    Raises:
        ApercuError: a type that has no white.
    """
    if planes.dtype not in (np.uint8, np.uint16):
        raise ApercuError(f"transparency in {planes.dtype} is not supported: save it without an alpha channel")
    white = np.uint32(np.iinfo(planes.dtype).max)
    colour, alpha = planes[:-1].astype(np.uint32), planes[-1:].astype(np.uint32)
    if premultiplied:
        shown = np.minimum(colour + (white - alpha), white)
    else:
        shown = (colour * alpha + (white - alpha) * white + white // np.uint32(2)) // white
    remarks = () if (alpha == white).all() else ("transparency was laid on white",)
    return Decoded(shown.astype(planes.dtype), remarks)


def upright(decoded: Decoded, orientation: int) -> Decoded:
    """Turn an image as EXIF orientation 2 … 8 says."""
    if orientation not in range(2, 9):
        return decoded
    pixels = decoded.pixels
    if orientation >= 5:
        pixels = pixels.swapaxes(1, 2)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[:, ::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, :, ::-1]
    return Decoded(np.ascontiguousarray(pixels), (*decoded.remarks, "it was turned upright as its EXIF data says"))
