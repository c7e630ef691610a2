"""Names of coded images: safe below any folder, on every system, and one for each image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath

from apercu.data.decode import EXTENSIONS

LONGEST = 1000


def names_of(ids: Sequence[str]) -> list[str]:
    """A name for each image: its id with its folders and without the ending, where that tells the images apart.

    `a.png` and `a.jpg` keep their endings; what is still alike, even in small letters, is numbered.
    """
    whole = [_safe(image_id) for image_id in ids]
    short = [_without_ending(name) for name in whole]
    often = Counter(name.casefold() for name in short)
    chosen = [brief if often[brief.casefold()] == 1 else full for brief, full in zip(short, whole, strict=True)]
    taken: set[str] = set()
    for place, name in enumerate(chosen):
        number = 1
        while chosen[place].casefold() in taken:
            number += 1
            chosen[place] = f"{name} ({number})"
        taken.add(chosen[place].casefold())
    return chosen


def is_safe(name: str) -> bool:
    """Whether a name that was read from a file stays below the folder that it is written to."""
    return name == _safe(name)


def _safe(image_id: str) -> str:
    """Folders and file name of an id, without what some system forbids or what leads upwards."""
    allowed = "".join("-" if c in '<>:"|?*#\\' or not c.isprintable() else c for c in image_id)
    parts = [part.strip(" .") for part in allowed.split("/")]
    return "/".join(part[:200].strip(" .") for part in parts if part)[-LONGEST:].strip("/ .") or "image"


def _without_ending(name: str) -> str:
    path = PurePosixPath(name)
    return str(path.with_suffix("")) if path.suffix.lower() in EXTENSIONS else name
