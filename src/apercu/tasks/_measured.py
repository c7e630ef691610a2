"""How well odd images and odd pixels are found, all together and for each kind of defect."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from apercu.data.images import ImageSet
from apercu.errors import ApercuError
from apercu.metrics import detection, localisation

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Maps = dict[int, NDArray[np.float32]]


def measured(
    images: ImageSet, bad: Flags, scores: Floats, threshold: float, maps: Maps, baselines: dict[str, Floats]
) -> dict[str, Any]:
    """AUROC, AP and F1 of scores (N,), (N,) of which are `bad`; of pixels where `maps` has some; and of the baselines.

    A defect without a mask, or with one that cannot be used, is left out of what is measured of pixels ("skipped").
    Normal images have nothing to mark.
    """
    masks, skipped = _masks(images, bad, maps)

    def part(chosen: Flags) -> dict[str, Any]:
        auroc, ap = detection(scores[chosen], bad[chosen])
        rows = [k for k in np.flatnonzero(chosen).tolist() if k in masks]
        pixels, aupro = localisation([maps[k] for k in rows], [masks[k] for k in rows]) if rows else (None, None)
        return {"image_auroc": auroc, "ap": ap, "pixel_auroc": pixels, "aupro": aupro}

    everything = part(np.ones(len(images), np.bool_))
    kinds = {images.classes[c]: images.labels == c for c in np.unique(images.labels[bad]).tolist()}
    trivial = {name: detection(values, bad)[0] for name, values in baselines.items()}
    known = {name: value for name, value in trivial.items() if value is not None}
    return {
        "n": len(images),
        "normal": int((~bad).sum()),
        "defects": int(bad.sum()),
        **everything,
        "f1": _f1(scores > threshold, bad),
        "threshold": threshold,
        "baseline_auroc": max(known.values(), default=None),
        "baseline": max(known, key=lambda name: known[name], default=None),
        "per_type": {name: {"n": int(own.sum()), **part(own | ~bad)} for name, own in kinds.items()},
        "skipped": skipped,
    }


def _masks(images: ImageSet, bad: Flags, maps: Maps) -> tuple[dict[int, Flags], list[str]]:
    masks: dict[int, Flags] = {}
    skipped = []
    for k, heat in maps.items():
        try:
            mask = images.mask(k)
        except ApercuError as error:
            skipped.append(str(error))
            continue
        if mask is not None and bad[k] and not mask.any():
            skipped.append(f"the mask of {images.ids[k]} marks nothing")
        elif mask is not None:
            masks[k] = mask
        elif not bad[k]:
            masks[k] = np.zeros(heat.shape, np.bool_)
    return masks, skipped


def _f1(said: Flags, bad: Flags) -> float | None:
    """2·hits / (said + bad); None where nothing is bad."""
    return float(2 * (said & bad).sum() / (said.sum() + bad.sum())) if bad.any() else None
