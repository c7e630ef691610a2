"""Which images of a set are normal: those of the class that is called so; all others are defects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from apercu.data.images import ImageSet
from apercu.data.open import Images
from apercu.errors import ApercuError

NAMES = ("good", "normal", "ok")
ALL = "all"


def normal_class(classes: Sequence[str], name: str = "") -> int | None:
    """The number of the class that is normal: that of `name`, else one called good, normal or ok, else None.

    Raises:
        ApercuError: no class has that name; there is no need for one where `name` is "all".
    """
    if name and name != ALL:
        if name not in classes:
            there = f"these have {', '.join(classes[:20])}" if classes else "these have no classes"
            raise ApercuError(f"no class is called {name!r}: {there}; name the one that is normal with -s normal=NAME")
        return list(classes).index(name)
    known = [k for k, c in enumerate(classes) if c.lower() in NAMES]
    return known[0] if len(known) == 1 and name != ALL else None


def defective(images: ImageSet, name: str = "") -> tuple[NDArray[np.bool_], str]:
    """Which images are known to be defects, (N,), and in words what was taken for normal.

    Images without a label count as normal, and so do all where no class is called so.

    Raises:
        ApercuError: no class has that name.
    """
    number = normal_class(images.classes, name)
    if number is not None:
        return (images.labels >= 0) & (images.labels != number), f"the class {images.classes[number]} is normal"
    if name == ALL or not images.classes:
        return np.zeros(len(images), np.bool_), "all of these images are taken for normal"
    return np.zeros(len(images), np.bool_), (
        f"no class is called {', '.join(NAMES[:-1])} or {NAMES[-1]}, so all of these images are taken for normal; "
        "name the class that is with -s normal=NAME"
    )


def normal_only(images: Images, name: str = "") -> Images:
    """The normal images alone, without classes.

    Raises:
        ApercuError: no class has that name, there are several and none is called normal, or there is no normal image
            to learn from.
    """
    if not name and len(images.train.classes) > 1 and normal_class(images.train.classes) is None:
        there = ", ".join(images.train.classes[:20])
        raise ApercuError(
            f"no class is called {', '.join(NAMES[:-1])} or {NAMES[-1]} ({there}): name the one that is normal with "
            "--normal NAME, or say --normal all where none is a defect"
        )
    bad, words = defective(images.train, name)
    if bad.all():
        raise ApercuError(
            f"{words}, and no training image is: put images without defects into the class that is normal"
        )
    notes = [*images.notes, words]
    if bad.any():
        notes.append(f"{int(bad.sum())} training images with defects are not learnt from")
    train, val, test = (_plain(part, name) for part in (images.train, images.val, images.test))
    return replace(images, train=train, val=val, test=test, notes=notes)


def _plain(images: ImageSet, name: str) -> ImageSet:
    normal = images.subset(~defective(images, name)[0])
    return normal.with_labels(np.full(len(normal), -1), ())
