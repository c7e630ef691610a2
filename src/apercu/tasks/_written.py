"""A list of images for a person: a table that a spreadsheet opens, and a contact sheet in the same order."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from apercu.checkpoint import write_atomically
from apercu.data.images import ImageSet
from apercu.data.recalled import Recalled
from apercu.errors import ApercuError
from apercu.sheet import contact_sheet, save_image

COLUMNS, MOST = 10, 200


def write_table(rows: Sequence[Mapping[str, object]], columns: Sequence[str], path: Path) -> None:
    """Write these columns of the rows as CSV; what a row lacks stays empty, and numbers are short."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: f"{v:.4f}" if isinstance(v, float) else v for name, v in row.items()})
    write_atomically(path, text.getvalue().encode())


def write_sheet(images: ImageSet, path: Path) -> None:
    """Write the images in their order as one picture, at most the first 200; none of codes whose images are gone."""
    if len(images):
        white = np.float32(images.spec.maximum)
        try:
            shown = [images.read([i])[0] / white for i in range(min(len(images), MOST))]
        except ApercuError:
            if isinstance(images.pixels, Recalled):
                return
            raise
        save_image(contact_sheet(shown, COLUMNS, images.ids[: len(shown)]), path)
