"""Pictures written for people: image files, and contact sheets of many images."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apercu.checkpoint import write_atomically
from apercu.lettering import lettered

SHOWN = 96
LINE, LETTER, NARROWEST, BASE = 14, 6, 98, 11
"""Of captions, in pixels: a line, a letter, the narrowest cell that has one, and where in a line letters stand."""


def encode_png(pixels: NDArray[Any]) -> bytes:
    """PNG of (C, H, W) with one or three channels, 8 or 16 bits."""
    import imagecodecs

    rows = np.ascontiguousarray(np.moveaxis(pixels, 0, -1))
    return bytes(imagecodecs.png_encode(rows[..., 0] if rows.shape[2] == 1 else rows))


def save_image(pixels: NDArray[Any], path: Path, white: float = 255) -> Path:
    """Write pixels (C, H, W) whose value `white` means white: PNG, or TIFF where PNG cannot hold the channels.

    Values of 8- and 16-bit images are written as they are; others are scaled to what any program shows as white.
    Returns where it is.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if white not in (255, 65535):
        top = 255 if 1 < white < 255 else 65535
        pixels = np.rint(np.clip(pixels / white, 0, 1) * top).astype(np.uint8 if top == 255 else np.uint16)
    if len(pixels) in (1, 3):
        path = path.with_suffix(".png")
        write_atomically(path, encode_png(pixels))
        return path
    import tifffile

    data = io.BytesIO()
    tifffile.imwrite(data, pixels, photometric="minisblack", planarconfig="separate")
    path = path.with_suffix(".tif")
    write_atomically(path, data.getvalue())
    return path


def contact_sheet(
    images: Sequence[NDArray[Any]], columns: int, captions: Sequence[str] = (), gap: int = 2, title: str = ""
) -> NDArray[np.uint8]:
    """Lay images (C, H, W) in [0, 1] out in rows on white, tiny ones magnified: → (3, H, W) uint8.

    `captions`: what is written below each, in as many lines as it has; long lines lose their middle. `title`: what is
    written above all of them.
    """
    columns = min(columns, len(images))
    height = max(image.shape[1] for image in images)
    width = max(image.shape[2] for image in images)
    scale = max(1, round(SHOWN / max(height, width)))
    lines = max((caption.count("\n") + 1 for caption in captions), default=0)
    cell_h, cell_w = height * scale + gap + lines * LINE, width * scale + gap
    if captions:
        cell_w = max(cell_w, NARROWEST)
    rows = -(-len(images) // columns)
    sheet = np.full((3, rows * cell_h + gap, columns * cell_w + gap), 255, np.uint8)
    for number, image in enumerate(images):
        top, left = gap + number // columns * cell_h, gap + number % columns * cell_w
        shown = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
        shown = np.broadcast_to(shown[:1], (3, *shown.shape[1:])) if len(shown) != 3 else shown
        shown = shown.repeat(scale, 1).repeat(scale, 2)
        sheet[:, top : top + shown.shape[1], left : left + shown.shape[2]] = shown
    if captions:
        sheet = _captioned(sheet, captions, columns, (cell_h, cell_w), lines, gap)
    return _titled(sheet, title, gap) if title else sheet


def _captioned(
    sheet: NDArray[np.uint8], captions: Sequence[str], columns: int, cell: tuple[int, int], lines: int, gap: int
) -> NDArray[np.uint8]:
    """The sheet with the captions at the bottom of its cells."""
    from PIL import Image, ImageDraw

    picture = Image.fromarray(np.moveaxis(sheet, 0, -1))
    pen = ImageDraw.Draw(picture)
    for number, caption in enumerate(captions):
        top, left = gap + (number // columns + 1) * cell[0] - gap - lines * LINE, gap + number % columns * cell[1]
        for k, line in enumerate(caption.split("\n")):
            line, font = lettered(line)
            most = len(line)
            while most > 1 and pen.textlength(shortened(line, most), font) > cell[1] - 2 * gap:
                most -= 1
            text, place = shortened(line, most), (left, top + k * LINE + BASE)
            pen.text(place, text, fill=(40, 40, 40), font=font, anchor="ls")
    return np.ascontiguousarray(np.moveaxis(np.asarray(picture), -1, 0))


def _titled(sheet: NDArray[np.uint8], title: str, gap: int) -> NDArray[np.uint8]:
    """The sheet below its title, which is broken into as many lines as it needs."""
    from textwrap import wrap

    lines = wrap(title, max(20, sheet.shape[2] // LETTER))
    head = np.full((3, len(lines) * LINE + gap, sheet.shape[2]), 255, np.uint8)
    return np.concatenate(
        [_captioned(head, ["\n".join(lines)], 1, (head.shape[1], head.shape[2]), len(lines), 0), sheet], 1
    )


def shortened(text: str, most: int) -> str:
    """The text without its middle, where it has more than `most` characters."""
    if len(text) <= most:
        return text
    begin = (most - 1) // 2
    return f"{text[:begin]}…{text[len(text) - (most - 1 - begin) :]}"


def file_stem(image_id: str) -> str:
    """A file name for an image: its id without folders and endings, safe on every system."""
    stem = Path(image_id.replace("#", "-")).with_suffix("").as_posix().replace("/", "-")
    return "".join(c if c.isalnum() or c in "-_. " else "_" for c in stem).strip(". ") or "image"
