"""Which score to go by, found without real defects: the one that best tells normal images from damaged copies of them.

Where real defects are known, by those. Candidates are the best score that the model can give, and the means of the best
two and the best three of them. The map is chosen apart from the score, by how well it says where synthetic defects are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from apercu import registry
from apercu.anomaly.base import Arrays, Score, some
from apercu.api import Model, batch_size
from apercu.corruptions.defects import Defects
from apercu.data.batches import in_order
from apercu.data.images import ImageSet
from apercu.data.pixels import Loose
from apercu.data.tiles import cut
from apercu.errors import ApercuError
from apercu.metrics import detection
from apercu.tasks._detector import Detector, Floats, Member, make, possible, restored

AUTO, PLUS = "auto", "+"
FEW, ENOUGH = 3, 100
LEAST = 2  # normal images must be held out for any of them to set a threshold
JUDGES, MEASURED, LOOKED = 200, 3000, 500
TOGETHER = 3
KEPT, MAPPED = 200, 4000  # pixels of a map
Scalar = TypeVar("Scalar", np.float32, np.bool_)


@dataclass(frozen=True)
class Learnt:
    """What is known of normal images: `detector`, and the trivial `baseline`.

    `known`: the joined scores of normal images that nothing was learnt from, (n,); `peaks`: the largest heat in each,
    (m,); `pixels`: heat of some of their pixels, (k,); `edge`: the heat from which on a pixel is rather inside of a
    synthetic defect than outside; `about`: how it was chosen, in words and figures.
    """

    detector: Detector
    baseline: Detector
    known: Floats
    peaks: Floats
    pixels: Floats
    edge: float
    about: dict[str, Any]

    def arrays(self) -> Arrays:
        """All arrays, to be kept."""
        own = {name: getattr(self, name) for name in ("known", "peaks", "pixels")}
        return own | self.detector.arrays() | self.baseline.arrays()

    def words(self) -> dict[str, Any]:
        """All else."""
        return {
            "about": self.about,
            "edge": self.edge,
            "detector": self.detector.words(),
            "baseline": self.baseline.words(),
        }


def kept(model: Model, arrays: Arrays, words: dict[str, Any], seed: int) -> Learnt:
    """What `Learnt.arrays` and `Learnt.words` gave, again."""
    detector, baseline = (restored(model, words[name], arrays, seed) for name in ("detector", "baseline"))
    known, peaks, pixels = (arrays[name].astype(np.float64) for name in ("known", "peaks", "pixels"))
    return Learnt(detector, baseline, known, peaks, pixels, words.get("edge", 0.0), words["about"])


def learn(model: Model, score: str, learnt: ImageSet, held_out: ImageSet, odd: ImageSet, seed: int) -> Learnt:
    """Fit to normal images, choose by others that were held out, and measure what is usual among these.

    `odd`: images with known defects, of which there may be none.

    Raises:
        ApercuError: fewer than two normal images, or no such score.
    """
    if len(learnt) == 0:
        raise ApercuError("there are no normal images here to learn from")
    if len(learnt) == 1:
        raise ApercuError("one normal image does not tell what may vary; give more of them, tens at least")
    about: dict[str, Any] = {"normal": len(learnt), "held_out": len(held_out)}
    if len(held_out) < LEAST:
        learnt, held_out = _parted(learnt, seed)
    names = possible(model) if score == AUTO else score.split(PLUS)
    detector = Detector(model, [Member(name, make(model, name, seed)) for name in names])
    detector.fit(learnt)
    if score == AUTO:
        members, found = _choose(detector, held_out, odd, seed)
        detector, about = Detector(model, members), about | found
    about["score"] = PLUS.join(m.name for m in detector.members if m.counted)
    usual = some(held_out, MEASURED, seed)
    each = detector.each(usual)
    detector = detector.scaled(some(held_out, LOOKED, seed), each)
    maps = [s.heat for s in detector.scan(some(held_out, LOOKED, seed)) if s.heat is not None]
    trivial = [name for name in registry.names("anomaly") if registry.part("anomaly", name).trivial]
    baseline = Detector(model, [Member(name, make(model, name, seed)) for name in trivial])
    baseline.fit(learnt)
    return Learnt(
        detector,
        baseline,
        np.sort(detector.joined(each)),
        np.sort(np.array([heat.max() for heat in maps], np.float64)),
        np.sort(np.concatenate([_thinned(heat, KEPT) for heat in maps]).astype(np.float64) if maps else np.zeros(0)),
        _edge(detector, held_out, seed),
        about,
    )


def _parted(images: ImageSet, seed: int) -> tuple[ImageSet, ImageSet]:
    """Two thirds to fit scores to, and one to measure them on: an image that a score was fitted to is too near to it.

    The network has learnt from both, so they promise nothing. Too few to be parted stand on both sides.
    """
    order = np.random.default_rng(seed).permutation(len(images))
    count = len(images) // 3
    if count < LEAST:
        return images, images
    return images.subset(np.sort(order[count:])), images.subset(np.sort(order[:count]))


def _thinned(values: NDArray[Scalar], count: int) -> NDArray[Scalar]:
    """About so many values of a map, evenly spread."""
    return values.ravel()[:: max(1, values.size // count)]


def _choose(detector: Detector, held_out: ImageSet, odd: ImageSet, seed: int) -> tuple[list[Member], dict[str, Any]]:
    """The scores to go by, already fitted, and what was found; one that draws a map is among them."""
    good = some(held_out, JUDGES, seed)
    real = len(odd) >= FEW
    bad = some(odd, JUDGES, seed) if real else damaged(good, seed, max(1, ENOUGH // len(good)))[0]
    usual, unusual = detector.each(good), detector.each(bad)
    spread = usual.std(0)
    scale = np.where(spread > 1e-12, spread, 1.0)
    a, b = (usual - usual.mean(0)) / scale, (unusual - usual.mean(0)) / scale

    def apart(columns: list[int]) -> tuple[float, float]:
        """AUROC and, where that is the same, how far the means lie apart."""
        x, y = a[:, columns].mean(1), b[:, columns].mean(1)
        auroc, _ = detection(np.concatenate([x, y]), np.repeat([False, True], [len(x), len(y)]))
        return round(auroc or 0.5, 3), float((np.median(y) - np.median(x)) / max(float(x.std()), 1e-12))

    order = sorted(range(len(detector.members)), key=lambda k: apart([k]), reverse=True)
    best = max(_leading(order), key=lambda columns: (apart(columns)[0], -len(columns)))
    drawing, precision = _choose_map(detector, good, seed)
    members = [
        replace(detector.members[k], counted=k in best, drawn=k in drawing) for k in order if k in {*best, *drawing}
    ]
    by = f"{len(bad)} known defects" if real else f"{len(bad)} synthetic defects"
    aurocs = {detector.members[k].name: apart([k])[0] for k in order}
    return members, {
        "chosen_by": f"{by}, beside {len(good)} normal images",
        "auroc": apart(best)[0],
        "aurocs": aurocs,
        "map": PLUS.join(detector.members[k].name for k in drawing) or None,
        "map_ap": precision,
    }


def _leading(order: list[int]) -> list[list[int]]:
    """The best, the best two and the best three."""
    return [order[:count] for count in range(1, min(TOGETHER, len(order)) + 1)]


def _choose_map(detector: Detector, good: ImageSet, seed: int) -> tuple[list[int], float | None]:
    """The members whose maps mark synthetic defects best, and the average precision of their pixels.

    Precision tells a map that is hot around a defect too from one that is hot inside alone, which AUROC hardly does.
    """
    windows = some(cut(good, detector.window).images, JUDGES, seed)
    first = next(detector.members[0].score.batches(windows.subset([0])))
    able = [k for k, member in enumerate(detector.members) if member.score.map(first) is not None]
    if not able:
        return [], None
    odd, inside = _odd_pixels(windows, seed)
    usual, found = (_heat([detector.members[k].score for k in able], images) for images in (windows, odd))
    spread = usual.std(1, keepdims=True)
    found = (found - usual.mean(1, keepdims=True)) / np.where(spread > 1e-12, spread, 1.0)

    def precision(rows: list[int]) -> float:
        return round(detection(found[rows].mean(0), inside)[1] or 0.0, 3)

    order = sorted(range(len(able)), key=lambda row: precision([row]), reverse=True)
    best = max(_leading(order), key=lambda rows: (precision(rows), -len(rows)))
    return [able[row] for row in best], precision(best)


def _odd_pixels(windows: ImageSet, seed: int) -> tuple[ImageSet, NDArray[np.bool_]]:
    """Damaged copies, and which of their pixels are, those of one image after the other."""
    odd, masks = damaged(windows, seed + 1, max(1, ENOUGH // len(windows)))
    return odd, np.concatenate([_thinned(mask, MAPPED) for mask in masks])


def _edge(detector: Detector, good: ImageSet, seed: int) -> float:
    """The heat that tells the pixels of synthetic defects best from all others, by F1; 0 where there are no maps."""
    from sklearn.metrics import precision_recall_curve

    odd, inside = _odd_pixels(some(cut(good, detector.window).images, ENOUGH, seed), seed)
    heat = {s.index: _thinned(s.heat, MAPPED) for s in detector.scan(odd) if s.heat is not None}
    if not heat:
        return 0.0
    precision, recall, heats = precision_recall_curve(inside, np.concatenate([heat[k] for k in range(len(odd))]))
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    return float(heats[f1[:-1].argmax()])


def _heat(scores: list[Score], images: ImageSet) -> NDArray[np.float32]:
    """The maps of K scores at pixels that are evenly spread over each image, (K, P)."""
    found: dict[int, NDArray[np.float32]] = {}
    for batch in in_order(images, batch_size(images.spec), scores[0].model.device):
        maps = [values for score in scores if (values := score.map(batch.x)) is not None]
        together = torch.stack(maps, 1).float().cpu().numpy()
        for row, index in enumerate(batch.index.tolist()):
            found[index] = np.stack([_thinned(values, MAPPED) for values in together[row]])
    return np.concatenate([found[index] for index in range(len(images))], 1)


def damaged(images: ImageSet, seed: int, copies: int = 1) -> tuple[ImageSet, list[NDArray[np.bool_]]]:
    """So many copies of the images, each with a synthetic defect of its own, and where it is, (H, W)."""
    images = images.subset(np.tile(np.arange(len(images)), copies))
    pixels: list[NDArray[Any]] = [np.empty(0)] * len(images)
    masks: list[NDArray[np.bool_]] = [np.empty(0, np.bool_)] * len(images)
    defects, white, dtype = Defects(*Defects.USUAL), images.spec.maximum, images.pixels.dtype
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for batch in in_order(images, batch_size(images.spec)):
            drawn, changed = defects.with_mask(batch.x)
            values, inside = drawn.numpy(), changed.numpy()
            stored = (values if white == 1 else np.rint(values * white)).astype(dtype)
            for row, index in enumerate(batch.index.tolist()):
                pixels[index], masks[index] = stored[row], inside[row]
    return replace(images, pixels=Loose(pixels), rows=np.arange(len(images)), original=None), masks
