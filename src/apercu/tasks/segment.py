"""What every pixel shows: masks, and regions with area and box, learnt from a handful of masks.

A light decoder on the encoder of the model, which goes on learning or stays frozen. Masks lie in a folder masks/ beside
images/, in ground_truth/ as the field has them, or in a JSON file of COCO.

Example: apercu segment MODEL IMAGES --learn MASKS -o OUT
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from apercu.api import Model, batch_size
from apercu.augment import views_for
from apercu.checkpoint import write_atomically
from apercu.codec.names import names_of
from apercu.data.batches import in_order
from apercu.data.images import ImageSet, join
from apercu.data.tiles import blend, boxes
from apercu.errors import ApercuError
from apercu.segment.learn import crop_side, learn
from apercu.segment.marks import marked, names_in
from apercu.segment.measured import confusion, measured
from apercu.segment.network import Segmenter
from apercu.segment.shown import encode_mask, overlay
from apercu.sheet import contact_sheet, save_image
from apercu.tasks._beside import Beside
from apercu.tasks._heat import thumbnails
from apercu.tasks._regions import Region, coco, regions
from apercu.tasks.base import Result, Task

__all__ = ["Segment"]

OWN, BASELINE = "pretrained", "baseline"
WINDOW = 512
DEEP = 8  # maps take about so many times the memory of the pixels
PER_ROW, LIMIT = 8, 127


@dataclass(frozen=True)
class Seen:
    """What is said of the image at `index`: p of every class, (K, H, W), the background first."""

    index: int
    p: NDArray[np.float32]

    @property
    def numbers(self) -> NDArray[np.int64]:
        """The most probable class of each pixel, (H, W)."""
        numbers: NDArray[np.int64] = self.p.argmax(0)
        return numbers


class Segment(Task):
    """`encoder`: goes on learning, or stays as it is; `steps`: of learning, at a learning rate of at most `rate`;
    `domain`: what the images show, which says how they may be varied; `normal`: the class without masks that has
    nothing to mark; `baseline`: learn the same network without pretraining beside it; `show`: images in the sheet."""

    def __init__(
        self,
        model: Model,
        *,
        encoder: Literal["finetuned", "frozen"] = "finetuned",
        steps: int = 300,
        rate: float = 2e-3,
        domain: Literal["auto", "digits", "objects", "texture", "medical", "aerial"] = "auto",
        normal: str = "",
        baseline: bool = False,
        show: int = 32,
        seed: int = 0,
    ) -> None:
        super().__init__(model)
        if steps < 1 or not 0 < rate < 1 or show < 0:
            raise ApercuError("steps must be at least 1, rate between 0 and 1, and show not negative")
        self.encoder, self.steps, self.rate, self.domain = encoder, steps, rate, domain
        self.normal, self.baseline, self.show, self.seed = normal, baseline, show, seed
        self.beside = Beside(model, "segment")
        self._ready: dict[str, Segmenter] = {}

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of what it marks, without the background.

        Raises:
            ApercuError: it has learnt nothing yet.
        """
        return tuple(self._about(OWN)["classes"])

    def fit(self, images: ImageSet, held_out: ImageSet | None = None) -> Result:
        """Learn from all masks there are, those of the images that were held out too: a handful is too few to spare.

        With `baseline`, a network of the same kind learns beside it in as many steps, all of it from random weights.

        Raises:
            ApercuError: no mask that can be used, more than 127 classes, or an encoder that makes no maps.
        """
        together = images if held_out is None or not len(held_out) else join([images, held_out])
        names = names_in(together)
        if len(names) > LIMIT:
            raise ApercuError(f"masks of {len(names)} classes cannot be written; give at most {LIMIT}")
        lesson = marked(together, names, self.normal)
        views = views_for(self.model.recipe.image, domain=self.domain)
        result: Result = {"masks": len(lesson.images), "classes": list(names), "skipped": lesson.skipped}
        self.model.recipe.tasks.pop("segment", None)  # a baseline of other masks would be none
        for name in (OWN, BASELINE) if self.baseline else (OWN,):
            side = crop_side(int(lesson.images.sizes.max()), self.model.network.encoder.stride)
            words = {
                "classes": list(names),
                "crop": side,
                "encoder": self.encoder if name == OWN else "random",
                "steps": self.steps,
                "rate": self.rate,
                "seed": self.seed,
                "domain": views.domain,
            }
            network = self._network(words)
            words["loss"] = result[f"loss_{name}"] = learn(
                network, lesson, views, side, self.steps, self.rate, self.seed
            )
            arrays = {key: values.cpu().numpy() for key, values in network.learnt().items()}
            self.beside.keep(name, arrays, words)
            self._ready[name] = network
        return result

    def __call__(self, images: ImageSet | None, out: Path | None = None) -> Result:
        """For every image the regions of each class, with box, area and probability, and the share of each class.

        With `out`: for each image `mask/NAME.png`, whose values are the numbers of the classes, and `overlay/NAME.png`;
        `regions.json` as COCO has them, `classes.json`, and `sheet.png` with the first images. All of it is at
        the size that images were stored with.
        """
        if images is None or len(images) == 0:
            raise ApercuError("there are no images here to segment")
        classes, names = self.classes, names_of(images.ids)
        found: list[list[Region]] = [[] for _ in range(len(images))]
        shown: dict[int, list[NDArray[np.float32]]] = {}
        areas = np.zeros((len(images), len(classes)), np.int64)
        stored = images.as_stored()
        for seen in self.scan(images):
            k = seen.index
            seen = Seen(k, images.stored_map(k, seen.p))
            numbers = seen.numbers
            areas[k] = np.bincount(numbers.ravel(), minlength=len(classes) + 1)[1:]
            found[k] = _regions(seen.p, numbers)
            if out is not None:
                pictures = self._pictures(stored, k, numbers, out, names[k])
                if k < self.show:
                    shown[k] = pictures
        if out is not None:
            write_atomically(out / "regions.json", json.dumps(coco(images.ids, stored.sizes, found, classes)).encode())
            numbered = {"0": "background"} | {str(k): name for k, name in enumerate(classes, start=1)}
            write_atomically(out / "classes.json", json.dumps(numbered, indent=1, ensure_ascii=False).encode())
            if shown:
                pairs = [picture for k in sorted(shown) for picture in shown[k]]
                said = [caption for k in sorted(shown) for caption in (images.ids[k], _shares(areas[k], classes))]
                save_image(contact_sheet(pairs, PER_ROW, said), out / "sheet")
        rows = [
            {
                "id": images.ids[k],
                "area": {name: int(area) for name, area in zip(classes, areas[k], strict=True)},
                "regions": [region.as_dict() | {"class": classes[region.category - 1]} for region in found[k]],
            }
            for k in range(len(images))
        ]
        return {"n": len(rows), "classes": list(classes), "images": rows, "out": str(out) if out else None}

    def evaluate(self, images: ImageSet) -> Result:
        """IoU and Dice of each class and their means, and pixel accuracy, over all images whose marks are known.

        With `baseline` the same of the network that was not pretrained, and "gain", the difference of mean IoU.
        """
        classes = self.classes
        if len(images) == 0:
            raise ApercuError("there are no images here to measure with; --split all takes those of every split")
        lesson = marked(images, classes, self.normal)
        unknown = sorted(set(names_in(images)) - set(classes))
        figures = {
            name: measured(self._confusion(lesson.images, lesson.numbers, name), classes)
            for name in ((OWN, BASELINE) if self.baseline else (OWN,))
        }
        result: Result = {"n": len(lesson.images)} | figures[OWN]
        if self.baseline:
            result["baseline"] = figures[BASELINE]
            result["gain"] = result["mean_iou"] - figures[BASELINE]["mean_iou"]
        return result | {"encoder": self._about(OWN)["encoder"], "not_learnt": unknown, "skipped": lesson.skipped}

    def scan(self, images: ImageSet, name: str = OWN) -> Iterator[Seen]:
        """The probabilities of every image once, in any order; large images in windows that overlap."""
        network = self._restored(name)
        for batch in in_order(images, max(1, batch_size(images.spec) // DEEP), self.model.device):
            p = _probabilities(network, batch.x)
            for i, k in enumerate(batch.index.tolist()):
                yield Seen(k, p[i])

    def _confusion(self, images: ImageSet, drawn: list[NDArray[np.int16]], name: str) -> NDArray[np.int64]:
        count = len(self.classes) + 1
        total = np.zeros((count, count), np.int64)
        for seen in self.scan(images, name):
            total += confusion(drawn[seen.index], seen.numbers, count)
        return total

    def _network(self, words: dict[str, Any]) -> Segmenter:
        """The network that `words` describe, its encoder as the model has it, or random."""
        source = self.model.network
        with torch.random.fork_rng():
            torch.manual_seed(words["seed"])
            if words["encoder"] == "random":
                source = self.model.recipe.build().to(self.model.device)
            frozen = words["encoder"] == "frozen"
            network = Segmenter(source, len(words["classes"]) + 1, words["crop"], frozen)
        network.to(self.model.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return network.eval()

    def _restored(self, name: str) -> Segmenter:
        if name not in self._ready:
            words, arrays = self._about(name), self.beside.find(name)
            if arrays is None:
                raise ApercuError("what it learnt did not come with the model; learn it again with --learn MASKS")
            network = self._network(words)
            network.restore({key: torch.from_numpy(values) for key, values in arrays.items()})
            self._ready[name] = network
        return self._ready[name]

    def _about(self, name: str) -> dict[str, Any]:
        if name not in self.beside.about:
            also = " -s baseline=true" if name == BASELINE else ""
            raise ApercuError(f"this model has not learnt that from masks yet; add --learn MASKS{also}")
        words: dict[str, Any] = self.beside.about[name]
        return words

    def _pictures(
        self, images: ImageSet, k: int, numbers: NDArray[np.int64], out: Path, name: str
    ) -> list[NDArray[np.float32]]:
        """Write mask and overlay of one image, and return small pictures for the sheet."""
        # A name may have dots of its own: the ending is added, and replaces nothing.
        mask = out / "mask" / f"{name}.png"
        mask.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(mask, encode_mask(numbers))
        image = images.read([k])[0].astype(np.float32) / np.float32(images.spec.maximum)
        over = overlay(image, numbers)
        save_image(np.rint(255 * over).astype(np.uint8), out / "overlay" / f"{name}.png")
        return thumbnails([image if len(image) in (1, 3) else image.mean(0, keepdims=True), over])


def _probabilities(network: Segmenter, x: Tensor) -> NDArray[np.float32]:
    """p of every class, (B, C, H, W) → (B, K, H, W); in windows where the images are large."""
    size = (x.shape[2], x.shape[3])
    places = boxes(size, (WINDOW, WINDOW))
    tiles = []
    with torch.no_grad():
        for top, left, height, width in places:
            logits = network(x[..., top : top + height, left : left + width])
            tiles.append(logits.softmax(1).cpu().numpy())
    if len(places) == 1:
        only: NDArray[np.float32] = tiles[0]
        return only
    classes = range(tiles[0].shape[1])
    maps = [np.stack([blend([tile[i, c] for tile in tiles], places, size) for c in classes]) for i in range(len(x))]
    whole: NDArray[np.float32] = np.stack(maps)
    return whole


def _shares(areas: NDArray[np.int64], classes: tuple[str, ...]) -> str:
    """What the sheet says of an image: the classes in it, the largest first."""
    there = [classes[c] for c in np.argsort(-areas, kind="stable") if areas[c]]
    return ", ".join(there) or "nothing"


def _regions(p: NDArray[np.float32], numbers: NDArray[np.int64]) -> list[Region]:
    """The connected regions of each class, the surest first; their peak is a probability."""
    found = [
        replace(region, category=c)
        for c in range(1, len(p))
        for region in regions(np.where(numbers == c, p[c], 0).astype(np.float32), 0, 0)
    ]
    return sorted(found, key=lambda region: -region.peak)
