"""Letters of captions: a font that has those of a name, whatever language it is in."""

from __future__ import annotations

import unicodedata
from contextlib import suppress
from functools import lru_cache
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import ImageFont

SIZE = 11
"""Of captions, in pixels."""

FONTS = (
    *("DejaVuSans.ttf", "arial.ttf", "Arial.ttf", "NotoSans-Regular.ttf"),
    *("NotoSansCJK-Regular.ttc", "NotoSansCJKsc-Regular.otf", "wqy-zenhei.ttc", "wqy-microhei.ttc"),
    *("DroidSansFallbackFull.ttf", "msyh.ttc", "msgothic.ttc", "malgun.ttf", "Arial Unicode.ttf", "PingFang.ttc"),
)
"""Tried after Pillow's own, which has plain Latin letters only: as common systems call them."""

NO_LETTER = "\uffff"
"""No font has a letter for this; what it draws instead is what it draws for every letter that it lacks."""


def lettered(line: str) -> tuple[str, ImageFont.FreeTypeFont]:
    """The line as it can be written, and the first of the fonts that has most of its letters.

    Letters that this font lacks lose their accents, and where that does not help an ellipsis stands for them.
    """
    line = unicodedata.normalize("NFC", line)
    font = _own()
    if all(_has(font, letter) for letter in line):
        return line, font
    font = max((font, *_others()), key=lambda other: sum(_has(other, letter) for letter in line))
    plain = "".join(x if _has(font, x) else unicodedata.normalize("NFKD", x)[:1] for x in line)
    runs = groupby(plain, lambda letter: _has(font, letter))
    return "".join("".join(run) if has else "…" for has, run in runs), font


@lru_cache(maxsize=4096)
def _has(font: ImageFont.FreeTypeFont, letter: str) -> bool:
    """Whether the font draws something of its own for this letter."""
    return _drawn(font, letter) != _drawn(font, NO_LETTER)


def _drawn(font: ImageFont.FreeTypeFont, letter: str) -> tuple[tuple[int, int], bytes]:
    mask = font.getmask(letter)
    return mask.size, bytes(mask)


@lru_cache
def _own() -> ImageFont.FreeTypeFont:
    from PIL import ImageFont

    return ImageFont.load_default(SIZE)  # type: ignore[return-value]


@lru_cache
def _others() -> tuple[ImageFont.FreeTypeFont, ...]:
    """Those of FONTS that are installed, if only as a part of matplotlib."""
    from PIL import ImageFont

    package, found = find_spec("matplotlib"), []
    bundled = [Path(package.origin).parent / "mpl-data/fonts/ttf" / FONTS[0]] if package and package.origin else []
    for name in (*map(str, bundled), *FONTS):
        with suppress(OSError):
            found.append(ImageFont.truetype(name, SIZE))
    return tuple(found)
