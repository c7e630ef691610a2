"""Images as a page shows them: small, visible whatever their channels and depth, and inside the page itself."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, features

Picture = Image.Image
PIXELATED = 64
PNG_LIMIT = 24_000


@dataclass(frozen=True)
class Film:
    """How pixel values become visible: `white` is the value in [0, 1] that is shown as white."""

    white: float = 1.0

    @classmethod
    def for_images(cls, sample: Sequence[NDArray[Any]], maximum: float) -> Film:
        """Sensors of more than 8 bits seldom fill their range: their images are shown up to the brightest values."""
        if maximum <= 255:
            return cls()
        brightest = max((float(np.quantile(image, 0.999)) for image in sample), default=1.0)
        return cls(min(1.0, brightest) or 1.0)

    def notes(self, channels: int) -> list[str]:
        """What a reader must know about how images of so many channels are shown."""
        found = []
        if channels == 2:
            found.append("Of the two channels the first is shown.")
        elif channels > 3:
            found.append(f"Of the {channels} channels the first three are shown as red, green and blue.")
        if self.white < 0.99:
            found.append(f"Shown brighter than stored: white is {100 * self.white:.3g} % of the largest value.")
        return found

    def develop(self, image: NDArray[Any], side: int) -> Picture:
        """(C, H, W) in [0, 1] → a picture of at most `side` pixels a side; nothing is enlarged."""
        seen = image[:3] if len(image) > 2 else image[:1]
        values = np.rint(np.clip(seen / self.white, 0, 1) * 255).astype(np.uint8)
        picture = Image.fromarray(np.ascontiguousarray(values[0] if len(values) == 1 else np.moveaxis(values, 0, -1)))
        return reduced(picture, side)


def reduced(picture: Picture, side: int) -> Picture:
    """The picture at most `side` pixels a side, its proportions kept."""
    scale = side / max(picture.size)
    if scale >= 1:
        return picture
    width, height = (max(1, round(length * scale)) for length in picture.size)
    return picture.resize((width, height), Image.Resampling.LANCZOS)


def sheet(pictures: Sequence[Picture], columns: int, gap: int = 0) -> Picture:
    """The pictures in rows of tiles of one size, on nothing."""
    width = max(picture.width for picture in pictures)
    height = max(picture.height for picture in pictures)
    rows = -(-len(pictures) // columns)
    size = (columns * (width + gap) - gap, rows * (height + gap) - gap)
    opaque = not gap and len(pictures) == rows * columns and all(p.size == (width, height) for p in pictures)
    out = Image.new(pictures[0].mode if opaque else "RGBA", size)
    for number, picture in enumerate(pictures):
        left = number % columns * (width + gap) + (width - picture.width) // 2
        top = number // columns * (height + gap) + (height - picture.height) // 2
        out.paste(picture, (left, top))
    return out


def data_uri(picture: Picture, limit: int = PNG_LIMIT) -> str:
    """The picture as text: PNG, exact, or WebP where that would be larger than `limit` bytes."""
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    kind = "png"
    if file.tell() > limit and features.check("webp"):
        file, kind = io.BytesIO(), "webp"
        picture.save(file, "WEBP", quality=82)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode('ascii')}"


@dataclass(frozen=True)
class Shown:
    """A picture in the page, in words for those who do not see it."""

    uri: str
    alt: str
    width: int
    height: int

    @property
    def pixelated(self) -> bool:
        """Whether it is so small that its pixels are to be seen when it is enlarged."""
        return max(self.width, self.height) <= PIXELATED


def shown(picture: Picture, alt: str, tile: Picture | None = None) -> Shown:
    """The picture for the page; for a sheet, `tile` decides whether pixels are to be seen."""
    size = (tile or picture).size
    return Shown(data_uri(picture), alt, *size)
