"""What is odd about an image: a score, a threshold that keeps a promise, a heat map, and the regions that stand out.

It learns from normal images alone: those of the class that is called good, normal or ok, or all where there are no
classes. A score of 0 is usual; above the threshold, the share `rate` of normal images lies. With -s frames=true images
are the frames of a video, in their order.

Example: apercu anomaly MODEL IMAGES -o OUT
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from apercu.api import Model
from apercu.checkpoint import write_atomically
from apercu.codec.names import names_of
from apercu.data.images import ImageSet, join
from apercu.data.normal import ALL, defective, normal_class
from apercu.errors import ApercuError
from apercu.sheet import contact_sheet, save_image
from apercu.tasks._beside import Beside
from apercu.tasks._choice import AUTO, LEAST, Learnt, kept, learn
from apercu.tasks._false_alarms import Floats, Threshold, drift, threshold
from apercu.tasks._frames import told
from apercu.tasks._heat import Pixels, overlay, thumbnails
from apercu.tasks._measured import measured
from apercu.tasks._novelty import p_values
from apercu.tasks._own import own_images
from apercu.tasks._regions import Region, as_mask, coco, regions
from apercu.tasks._written import write_table
from apercu.tasks.base import Result, Task

__all__ = ["Anomaly"]

DETECTOR = "detector"
COLUMNS = ("id", "score", "odd", "p", "regions", "area")
PER_ROW = 8


@dataclass
class Found:
    """What is said of each image: joined scores, (N,), regions, and small pictures of the oddest by position."""

    scores: Floats
    regions: list[list[Region]]
    shown: dict[int, list[Pixels]]


class Anomaly(Task):
    """`score`: one of the folder `anomaly`, several as bank+pixel, or auto; `rate`: of false alarms; `normal`: the
    class that is, "all" where all are; `frames`: of a video, smoothed over `smooth` of them; `show`: in the sheet."""

    def __init__(
        self,
        model: Model,
        *,
        score: str = "auto",
        rate: float = 0.01,
        normal: str = "",
        frames: bool = False,
        smooth: float = 2.0,
        show: int = 32,
        seed: int = 0,
    ) -> None:
        super().__init__(model)
        self.score, self.rate, self.normal = score, rate, normal
        self.frames, self.smooth, self.show, self.seed = frames, smooth, show, seed
        self.beside = Beside(model, "anomaly")
        self._learnt: Learnt | None = None
        if not 0 < rate < 1 or smooth < 0 or show < 0:
            raise ApercuError("rate lies between 0 and 1, and smooth and show are not negative")

    def fit(self, images: ImageSet, held_out: ImageSet | None = None) -> Result:
        """Learn what is normal, choose the score, and set the threshold by the normal images that were held out.

        Defects among the images are not learnt from; they choose the score, where there are three or more.

        Raises:
            ApercuError: no normal image, no such class, or a score that this model does not have.
        """
        self._learnt = self._learn(images, held_out)
        self._keep(self._learnt)
        return self._learnt.about | {"threshold": self._threshold(self._learnt).words}

    def _learn(self, images: ImageSet, held_out: ImageSet | None) -> Learnt:
        bad, words = defective(images, self._named(images))
        odd, others = images.subset(bad), images.subset([])
        if held_out is not None and len(held_out):
            also_bad, _ = defective(held_out, self._named(held_out))
            odd, others = join([odd, held_out.subset(also_bad)]), held_out.subset(~also_bad)
        learnt = learn(self.model, self.score, images.subset(~bad), others, odd, self.seed)
        learnt.about["taken_for_normal"] = words
        return learnt

    def learnt(self, images: ImageSet) -> Learnt:
        """What it has learnt; where that is nothing yet, from the images of the model or, without them, from these."""
        if self._learnt is not None:
            return self._learnt
        words = self.beside.about.get(DETECTOR)
        arrays = self.beside.find(DETECTOR)
        if words is not None and arrays is not None and self.score in (AUTO, words["about"]["score"]):
            self._learnt = kept(self.model, arrays, words, self.seed)
            return self._learnt
        own = own_images(self.model)
        lesson = (images, None) if own is None else (own, own_images(self.model, "val"))
        learnt = self._learn(*lesson)
        if arrays is None:
            self._keep(learnt)  # another score than the one that is kept is tried, and does not take its place
        self._learnt = learnt
        return learnt

    def _keep(self, learnt: Learnt) -> None:
        self.beside.keep(DETECTOR, learnt.arrays(), learnt.words())

    def _named(self, images: ImageSet) -> str:
        """The class that is normal: the one that was named, now or, where these images have it, in training."""
        before = self.model.recipe.data.get("request", {}).get("normal") or ""
        return self.normal or (before if before in images.classes else "")

    def _threshold(self, learnt: Learnt) -> Threshold:
        return threshold(learnt.known, self.rate, held_out=learnt.about["held_out"] >= LEAST)

    def __call__(self, images: ImageSet | None, out: Path | None = None) -> Result:
        """The score of every image, whether it is odd, and its odd regions.

        With `out`: `scores.csv`, `regions.json` as COCO has them, and `sheet.png` with the oddest; for each image its
        map in `heat` (32-bit TIFF), and in `overlay` and `mask` what a person looks at, at the size that the image was
        stored with. Images whose class is normal are counted against the promised rate of false alarms.
        """
        if images is None or len(images) == 0:
            raise ApercuError("there are no images here to look at")
        learnt = self.learnt(images)
        promised = self._threshold(learnt)
        found = self._look(images, learnt, promised, out)
        odd = found.scores > promised.value
        p = p_values(found.scores, learnt.known)
        rows: list[Result] = [
            {
                "id": images.ids[k],
                "score": float(found.scores[k]),
                "odd": bool(odd[k]),
                "p": float(p[k]),
                "area": sum(region.area for region in found.regions[k]),
                "regions": [region.as_dict() for region in found.regions[k]],
            }
            for k in range(len(images))
        ]
        result: Result = {
            "n": len(images),
            "odd": int(odd.sum()),
            "score": learnt.about["score"],
            "threshold": promised.value,
            "promise": promised.words,
            "drift": self._drift(images, found.scores, promised),
        }
        if self.frames:
            result["videos"] = told(images.ids, found.scores, promised.value, self.smooth, out)
        if out is not None:
            self._write(images, rows, found, result, out)
        return result | {"images": rows, "out": str(out) if out else None}

    def _look(self, images: ImageSet, learnt: Learnt, promised: Threshold, out: Path | None) -> Found:
        """Every image, with the regions of the odd ones; with `out`, its pictures are written."""
        scores, names = np.zeros(len(images)), names_of(images.ids)
        found: list[list[Region]] = [[] for _ in range(len(images))]
        shown: dict[int, list[Pixels]] = {}
        high = threshold(learnt.peaks, self.rate).value if len(learnt.peaks) else 0.0
        low = max(learnt.edge, float(np.quantile(learnt.pixels, 1 - self.rate)) if len(learnt.pixels) else 0.0)
        stored = images.as_stored()
        for seen in learnt.detector.scan(images):
            k = seen.index
            scores[k] = float(learnt.detector.joined(seen.each[None])[0])
            if seen.heat is None:
                continue
            heat = images.stored_map(k, seen.heat[None])[0]
            if scores[k] > promised.value:
                found[k] = regions(heat, high, low)
            if out is not None:
                pictures = self._pictures(stored, k, heat, found[k], high, out, names[k])
                shown = _oddest(shown | {k: pictures}, scores, self.show)
        return Found(scores, found, shown)

    def _pictures(
        self,
        images: ImageSet,
        k: int,
        heat: NDArray[np.float32],
        own: list[Region],
        high: float,
        out: Path,
        name: str,
    ) -> list[Pixels]:
        """Write heat map, overlay and mask of one image, and return small ones for the sheet."""
        import tifffile

        (out / "heat" / name).parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(out / "heat" / f"{name}.tif", heat)
        mask = as_mask(own, (heat.shape[0], heat.shape[1]))
        image = images.read([k])[0].astype(np.float32) / np.float32(images.spec.maximum)
        over = overlay(image, heat, mask, high)
        save_image(np.rint(255 * over).astype(np.uint8), out / "overlay" / name)
        save_image(mask[None].astype(np.uint8) * np.uint8(255), out / "mask" / name)
        return thumbnails([image if len(image) in (1, 3) else image.mean(0, keepdims=True), over])

    def _write(self, images: ImageSet, rows: list[Result], found: Found, result: Result, out: Path) -> None:
        table = [row | {"regions": len(row["regions"]), "odd": "yes" if row["odd"] else "no"} for row in rows]
        write_table(table, COLUMNS, out / "scores.csv")
        marked = coco(images.ids, images.as_stored().sizes, found.regions)
        write_atomically(out / "regions.json", json.dumps(marked).encode())
        if self.frames:
            write_atomically(out / "events.json", json.dumps(result["videos"]).encode())
        if found.shown:
            pairs = [small for pair in found.shown.values() for small in pair]
            said = [caption for k in found.shown for caption in (rows[k]["id"], _verdict(rows[k]))]
            save_image(contact_sheet(pairs, PER_ROW, said), out / "sheet")

    def _drift(self, images: ImageSet, scores: Floats, promised: Threshold) -> Result | None:
        """The measured rate of false alarms among images that are said to be normal; None where none is."""
        name = self._named(images)
        number = normal_class(images.classes, name)
        said = np.full(len(images), name == ALL) if number is None else images.labels == number
        return drift(scores[said], promised) if said.any() else None

    def evaluate(self, images: ImageSet) -> Result:
        """AUROC, AP and F1 of images; AUROC and AUPRO of pixels, where there are masks; and each kind of defect.

        "baseline_auroc" is of the better of two trivial ones: the distance from the mean image, and PCA's residual.
        """
        learnt = self.learnt(images)
        promised = self._threshold(learnt)
        bad, words = defective(images, self._named(images))
        scores, maps = np.zeros(len(images)), dict[int, NDArray[np.float32]]()
        for seen in learnt.detector.scan(images):
            scores[seen.index] = float(learnt.detector.joined(seen.each[None])[0])
            if seen.heat is not None and images.masks:
                maps[seen.index] = seen.heat
        trivial = learnt.baseline.each(images)
        names = [member.name for member in learnt.baseline.members]
        result = measured(images, bad, scores, promised.value, maps, dict(zip(names, trivial.T, strict=True)))
        false = drift(scores[~bad], promised) if (~bad).any() else None
        rest = {
            "score": learnt.about["score"],
            "promise": promised.words,
            "false_alarms": false,
            "taken_for_normal": words,
        }
        return result | rest


def _verdict(row: Result) -> str:
    """What the sheet says of an image."""
    return f"{'odd' if row['odd'] else 'normal'}, score {row['score']:.1f}"


def _oddest(shown: dict[int, list[Pixels]], scores: Floats, count: int) -> dict[int, list[Pixels]]:
    """The pictures of the images with the largest scores, in their order."""
    return {k: shown[k] for k in sorted(shown, key=lambda k: -scores[k])[:count]}
