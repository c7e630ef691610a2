"""TIFF at full depth: 8 to 16 bits, float, any number of channels, any layout; the first page."""

from __future__ import annotations

import logging
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from apercu.data.convert import plain
from apercu.data.decode import Decoded, check_claim, from_pillow, on_white, open_pillow, upright
from apercu.errors import ApercuError

if TYPE_CHECKING:
    from tifffile import TiffPage

# Without a handler, Python would print what it logs of damaged files, which are named all the same.
logging.getLogger("tifffile").addHandler(logging.NullHandler())

MINISWHITE, MINISBLACK, RGB, PALETTE, SEPARATED = 0, 1, 2, 3, 5


def decode_tiff(data: bytes) -> Decoded:
    """The first page of a TIFF or BigTIFF.

    Raises:
        ApercuError: truncated, or of a kind that is not supported; the message is the reason only.
    """
    import tifffile

    with tifffile.TiffFile(BytesIO(data)) as file:
        page = file.pages.first
        check_claim(page.imagewidth, page.imagelength)
        ends = [o + n for o, n in zip(page.dataoffsets, page.databytecounts, strict=True)]
        if not ends or max(ends) > len(data):
            raise ApercuError("truncated: its pixels go on beyond the end of the file")
        remarks = ("only the first of several frames was read",) if len(file.pages) > 1 else ()
        photometric = int(page.photometric)
        if page.bitspersample <= 8 and (photometric >= PALETTE or page.bitspersample < 8):
            # Palettes, CMYK, YCbCr, Lab and bilevel: Pillow shows these as a person sees them, turned upright.
            with open_pillow(data) as image:
                shown = from_pillow(image)
            return Decoded(shown.pixels, tuple(dict.fromkeys(remarks + shown.remarks)))
        if photometric not in (MINISWHITE, MINISBLACK, RGB):
            raise ApercuError(f"a TIFF of kind {photometric} with {page.bitspersample} bits is not supported")
        shown = _show(page)
        tag = page.tags.get(274)
        return upright(Decoded(shown.pixels, remarks + shown.remarks), int(tag.value) if tag else 1)


def _show(page: TiffPage) -> Decoded:
    planes = _planes(page)
    if planes.dtype.kind == "i":
        planes = plain(planes, wide=True)
    bits = page.bitspersample
    remarks: tuple[str, ...] = ()
    if planes.dtype == np.uint16 and 8 < bits < 16:
        white = np.uint32(2**bits - 1)
        planes = ((planes * np.uint32(65535) + white // np.uint32(2)) // white).astype(np.uint16)
        remarks = (f"{bits} bits were spread over 16",)
    if int(page.photometric) == MINISWHITE and planes.dtype.kind == "u":
        planes = np.iinfo(planes.dtype).max - planes
    extra = page.extrasamples
    if len(extra) == 1 and int(extra[0]) in (1, 2):
        shown = on_white(planes, premultiplied=int(extra[0]) == 1)
        return Decoded(shown.pixels, remarks + shown.remarks)
    return Decoded(np.ascontiguousarray(plain(planes, wide=True)), remarks)


def _planes(page: TiffPage) -> NDArray[Any]:
    pixels: NDArray[Any] = page.asarray()
    if page.axes == "YX":
        return pixels[None]
    if page.axes == "YXS":
        return np.moveaxis(pixels, -1, 0)
    if page.axes == "SYX":
        return pixels
    raise ApercuError(f"a TIFF page with axes {page.axes} is not an image: save one plane for each file")
