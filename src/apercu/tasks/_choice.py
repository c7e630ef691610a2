"""Which score to go by, found without real defects: the one that best tells normal images from damaged copies of them.

Where real defects are known, by those. Candidates are the best score that the model can give, and the means of the best
two and the best three of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from apercu import registry
from apercu.anomaly.base import Arrays, some
from apercu.api import Model, batch_size
from apercu.corruptions.defects import Defects
from apercu.data.batches import in_order
from apercu.data.images import ImageSet
from apercu.data.pixels import Loose
from apercu.errors import ApercuError
from apercu.metrics import detection
from apercu.tasks._detector import Detector, Floats, Member, make, possible, restored

AUTO, PLUS = "auto", "+"
FEW, ENOUGH = 3, 100
LEAST = 2  # normal images must be held out for any of them to set a threshold
JUDGES, MEASURED, LOOKED = 200, 3000, 500
TOGETHER = 3


@dataclass(frozen=True)
class Learnt:
    """What is known of normal images: `detector`, and the trivial `baseline`.

    `known`: the joined scores of normal images that nothing was learnt from, (n,); `peaks`: the largest heat in each,
    (m,); `pixels`: heat of some of their pixels, (k,); `about`: how it was chosen, in words and figures.
    """

    detector: Detector
    baseline: Detector
    known: Floats
    peaks: Floats
    pixels: Floats
    about: dict[str, Any]

    def arrays(self) -> Arrays:
        """All arrays, to be kept."""
        own = {name: getattr(self, name) for name in ("known", "peaks", "pixels")}
        return own | self.detector.arrays() | self.baseline.arrays()

    def words(self) -> dict[str, Any]:
        """All else."""
        return {"about": self.about, "detector": self.detector.words(), "baseline": self.baseline.words()}


def kept(model: Model, arrays: Arrays, words: dict[str, Any], seed: int) -> Learnt:
    """What `Learnt.arrays` and `Learnt.words` gave, again."""
    detector, baseline = (restored(model, words[name], arrays, seed) for name in ("detector", "baseline"))
    known, peaks, pixels = (arrays[name].astype(np.float64) for name in ("known", "peaks", "pixels"))
    return Learnt(detector, baseline, known, peaks, pixels, words["about"])


def learn(model: Model, score: str, learnt: ImageSet, held_out: ImageSet, odd: ImageSet, seed: int) -> Learnt:
    """Fit to normal images, choose by others that were held out, and measure what is usual among these.

    `odd`: images with known defects, of which there may be none.

    Raises:
        ApercuError: no normal image, or no such score.
    """
    if len(learnt) == 0:
        raise ApercuError("there are no normal images here to learn from")
    about: dict[str, Any] = {"normal": len(learnt), "held_out": len(held_out)}
    if len(held_out) < LEAST:
        held_out = learnt
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
        np.sort(np.concatenate([_thinned(heat) for heat in maps]) if maps else np.zeros(0)),
        about,
    )


def _thinned(heat: NDArray[np.float32]) -> Floats:
    return heat.ravel()[:: max(1, heat.size // 200)].astype(np.float64)


def _choose(detector: Detector, held_out: ImageSet, odd: ImageSet, seed: int) -> tuple[list[Member], dict[str, Any]]:
    """The scores to go by, already fitted, and what was found; one that draws a map is among them."""
    good = some(held_out, JUDGES, seed)
    real = len(odd) >= FEW
    bad = some(odd, JUDGES, seed) if real else damaged(good, seed, max(1, ENOUGH // len(good)))
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
    candidates = [order[:count] for count in range(1, min(TOGETHER, len(order)) + 1)]
    best = max(candidates, key=lambda columns: (apart(columns)[0], -len(columns)))
    members = [detector.members[k] for k in best]
    first = next(detector.members[0].score.batches(good.subset([0])))
    draws = [m for m in (detector.members[k] for k in order) if m.score.map(first) is not None]
    if draws and not any(m in draws for m in members):
        members.append(replace(draws[0], counted=False))
    by = f"{len(bad)} known defects" if real else f"{len(bad)} synthetic defects"
    aurocs = {detector.members[k].name: apart([k])[0] for k in order}
    return members, {"chosen_by": f"{by}, beside {len(good)} normal images", "auroc": apart(best)[0], "aurocs": aurocs}


def damaged(images: ImageSet, seed: int, copies: int = 1) -> ImageSet:
    """So many copies of the images, each with a synthetic defect of its own."""
    images = images.subset(np.tile(np.arange(len(images)), copies))
    pixels: list[NDArray[Any]] = [np.empty(0)] * len(images)
    defects, white, dtype = Defects(*Defects.USUAL), images.spec.maximum, images.pixels.dtype
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for batch in in_order(images, batch_size(images.spec)):
            values = defects.with_mask(batch.x)[0].numpy()
            stored = (values if white == 1 else np.rint(values * white)).astype(dtype)
            for row, index in enumerate(batch.index.tolist()):
                pixels[index] = stored[row]
    return replace(images, pixels=Loose(pixels), rows=np.arange(len(images)))
