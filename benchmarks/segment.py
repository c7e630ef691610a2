"""Magnetic tile defects from a few masks of each kind: what does pretraining without labels give?

For each seed so many images of each of the five defects are drawn whose masks are learnt from; mean IoU is measured on
all other images with a mask, and once more with the images without defects among them, where whatever is marked is
wrong. Beside it the same network from random weights, in as many steps. The model learns from all images before that,
without labels or masks; with --apart it never sees those that are measured with. Four masks are empty and left out.

Images are scaled as in anomaly.py, so that the shorter side has 256 pixels.

Data: Huang, Qiu and Yuan, "Surface defect saliency of magnetic tile" (2020).

Run: python benchmarks/segment.py [--minutes 10] [--seeds 3] [--preset dae] [-s width=32] [-t steps=600] [--masks 10]
     [--apart] [--most N]
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

import apercu
from apercu.data.images import ImageSet, join
from apercu.data.open import Images, open_images
from apercu.presets import find
from apercu.settings import parse_settings
from apercu.tasks.segment import Segment
from apercu.training import Training

from anomaly import scaled
from record import Record

FREE = "free"


class Bench:
    """One way to train a model, one way to learn from masks, and what comes of them."""

    def __init__(self, how: dict[str, Any], taught: dict[str, Any], minutes: float, masks: int, apart: bool) -> None:
        self.how, self.taught, self.minutes, self.masks, self.apart = how, taught, minutes, masks, apart

    def measure(self, images: Images, seed: int) -> dict[str, Any]:
        """Mean IoU with and without pretraining, and for each class."""
        lesson, rest, free = self.split(images.split("all"), seed)
        given = join([lesson, free]) if self.apart else images.split("all")
        unlabelled = given.with_labels(np.full(len(given), -1), ())
        held = np.arange(len(given)) % 20 == 0
        parts = {"train": unlabelled.subset(~held), "val": unlabelled.subset(held), "test": unlabelled.subset([])}
        training = Training(minutes=self.minutes, batch=32, seed=seed)
        model = apercu.fit(replace(images, **parts), **self.how, training=training)
        task = Segment(model, **self.taught, normal=FREE, baseline=True, seed=seed)
        losses = task.fit(lesson)
        found, among_free = task.evaluate(rest), task.evaluate(join([rest, free]))
        figure = {name: round(found[name], 4) for name in ("mean_iou", "mean_iou_all", "pixel_accuracy", "gain")}
        return figure | {
            "not_pretrained": round(found["baseline"]["mean_iou"], 4),
            "among_free": round(among_free["mean_iou"], 4),
            "gain_among_free": round(among_free["gain"], 4),
            "iou": {name: round(row["iou"], 4) for name, row in found["per_class"].items()},
            "losses": [round(losses["loss_pretrained"], 4), round(losses["loss_baseline"], 4)],
            "images": [len(lesson), len(rest), len(free)],
        }

    def split(self, images: ImageSet, seed: int) -> tuple[ImageSet, ImageSet, ImageSet]:
        """Images to learn masks from, others with a mask, and those without defects."""
        marked = np.array([(mask := images.mask(k)) is not None and bool(mask.any()) for k in range(len(images))])
        rng, learnt = np.random.default_rng(seed), list[int]()
        for label in np.unique(images.labels[marked]):
            learnt += rng.permutation(np.flatnonzero(marked & (images.labels == label)))[: self.masks].tolist()
        rest = np.setdiff1d(np.flatnonzero(marked), learnt)
        free = images.labels == images.classes.index(FREE)
        return images.subset(np.sort(learnt)), images.subset(rest), images.subset(free)


def main(bench: Bench, seeds: int, most: int | None) -> None:
    """Figure by figure; what is there is not measured again."""
    record = Record("segment" if most is None else "segment-trial", "mean IoU of magnetic tile defects from few masks")
    images = open_images(scaled(most))
    how = f"{bench.how['preset']} {bench.how['settings']}, {bench.minutes:g} minutes{', apart' if bench.apart else ''}"
    key = f"{how}; {bench.masks} masks of each, {bench.taught}"
    found = [record.once(f"{key}, seed {seed}", partial(bench.measure, images, seed)) for seed in range(seeds)]
    for figure in ("mean_iou", "not_pretrained", "gain"):
        values = [row[figure] for row in found]
        record.put(
            f"{key}, {figure}", {"mean": round(float(np.mean(values)), 4), "sd": round(float(np.std(values)), 4)}
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--preset", default="dae")
    parser.add_argument("-s", "--setting", action="append", default=[])
    parser.add_argument("-t", "--task-setting", action="append", default=[])
    parser.add_argument("--masks", type=int, default=10)
    parser.add_argument("--apart", action="store_true")
    parser.add_argument("--most", type=int)
    arguments = parser.parse_args()
    preset = {"preset": arguments.preset, "settings": parse_settings(arguments.setting, find(arguments.preset))}
    task_settings = {"domain": "texture"} | parse_settings(arguments.task_setting, Segment)
    ways = Bench(preset, task_settings, arguments.minutes, arguments.masks, arguments.apart)
    main(ways, arguments.seeds, arguments.most)
