"""Connected regions of a heat map: where they are, how large, how odd; written as COCO has them.

A region holds a pixel above the higher threshold and all that is connected with it above the lower one (Canny, 1986).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
TOUCHING = np.ones((3, 3))


@dataclass(frozen=True)
class Region:
    """`box`: left, top, width, height; `area`: in pixels; `peak`: the largest heat inside; `category`: from 1 on."""

    box: tuple[int, int, int, int]
    area: int
    peak: float
    mask: Mask
    category: int = 1

    def as_dict(self) -> dict[str, Any]:
        """All but the mask."""
        return {"box": list(self.box), "area": self.area, "peak": self.peak}


def regions(heat: NDArray[np.float32], high: float, low: float) -> list[Region]:
    """The regions of a map, (H, W), the oddest first; `box` and `mask` are those of the region inside the image."""
    from scipy.ndimage import find_objects, label

    numbered, _ = label(heat > min(low, high), TOUCHING)
    found = []
    for number, place in enumerate(find_objects(numbered), start=1):
        inside = numbered[place] == number
        peak = float(heat[place][inside].max())
        if peak > high:
            rows, columns = place
            box = (columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start)
            found.append(Region(box, int(inside.sum()), peak, inside))
    return sorted(found, key=lambda region: -region.peak)


def as_mask(found: Sequence[Region], size: tuple[int, int]) -> Mask:
    """All regions in one mask, (H, W)."""
    mask = np.zeros(size, np.bool_)
    for region in found:
        left, top, width, height = region.box
        mask[top : top + height, left : left + width] |= region.mask
    return mask


def coco(
    names: Sequence[str],
    sizes: NDArray[np.int64],
    found: Sequence[Sequence[Region]],
    categories: Sequence[str] = ("anomaly",),
) -> dict[str, Any]:
    """Images, regions and their categories, as in the files of Lin et al., "Microsoft COCO" (2014).

    Masks are uncompressed run lengths, column by column, the first run being outside.
    """
    annotations: list[dict[str, Any]] = []
    for k, own in enumerate(found):
        size = (int(sizes[k, 0]), int(sizes[k, 1]))
        for region in own:
            counts = _runs(as_mask([region], size))
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": k + 1,
                    "category_id": region.category,
                    "bbox": list(region.box),
                    "area": region.area,
                    "score": region.peak,
                    "segmentation": {"size": list(size), "counts": counts},
                    "iscrowd": 1,
                }
            )
    images = [
        {"id": k + 1, "file_name": name, "height": int(height), "width": int(width)}
        for k, (name, (height, width)) in enumerate(zip(names, sizes, strict=True))
    ]
    named = [{"id": number, "name": name} for number, name in enumerate(categories, start=1)]
    return {"images": images, "annotations": annotations, "categories": named}


def _runs(mask: Mask) -> list[int]:
    column_by_column = mask.T.ravel()
    turns = np.flatnonzero(np.diff(column_by_column)) + 1
    runs: list[int] = np.diff([0, *turns, column_by_column.size]).tolist()
    return [0, *runs] if column_by_column[0] else runs
