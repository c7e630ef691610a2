"""How a person asked for images to be opened, kept with the model so that others are opened the same way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from apercu.data.convert import Fit
from apercu.data.labels import hide_labels
from apercu.data.normal import normal_only
from apercu.data.open import Images, open_images


@dataclass(frozen=True)
class Opening:
    """`labels`: how many to keep, or a CSV that names them; `normal`: the class that alone is learnt from, "" to find
    it by its name; the rest as in `open_images`."""

    labels: str | None = None
    size: str | None = None
    fit: Fit = "error"
    channels: int | None = None
    strict: bool = False
    normal: str | None = None

    def open(self, images: object, seed: int, progress: Callable[[int, int], None] | None = None) -> Images:
        """Open `images` and hide the labels that are not to be learnt from.

        Raises:
            ApercuError: there is nothing to open, or images or labels do not fit together.
        """
        opened = open_images(
            images, size=self.size, fit=self.fit, channels=self.channels, strict=self.strict, progress=progress
        )
        labelled = hide_labels(opened, self.labels, seed)
        return labelled if self.normal is None else normal_only(labelled, self.normal)
