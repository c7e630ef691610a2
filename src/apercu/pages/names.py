"""Names of the files that are written for images."""

from __future__ import annotations

from collections.abc import Sequence

from apercu.sheet import file_stem


def file_names(ids: Sequence[str], taken: Sequence[str] = ()) -> dict[str, str]:
    """A name without ending for each image, that no other has, in capitals or not, and that is not `taken`."""
    names: dict[str, str] = {}
    used = set(taken)
    for image_id in ids:
        stem = name = file_stem(image_id)
        number = 1
        while name.casefold() in used:
            number += 1
            name = f"{stem}-{number}"
        used.add(name.casefold())
        names[image_id] = name
    return names
