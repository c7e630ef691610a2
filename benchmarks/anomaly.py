"""How well odd images are found by models that saw normal ones alone; nothing is pretrained.

    tile       magnetic tile: 180 free images to learn from, the other 80 and all 392 defects to test; splits by seed,
               such that photographs of one tile are on one side, or anyhow: --twins (twins.py says why it matters)
    fashion    Fashion-MNIST: each class in turn is normal; its training images to learn from, all test images
    pneumonia  PneumoniaMNIST: normal chest X-rays to learn from, the official test images
    alarms     Fashion-MNIST, one class: 1 % of false alarms promised by one half of its unseen images, and measured
               on the other, twenty times

Magnetic tile images, which have many sizes, are scaled so that the shorter side has 256 pixels, and keep their shape.
The network learns from tiles of them and sees test images whole. Each figure has the score that was chosen without real
defects, or the one that --score gives; with --alone there is also, for the record, what each score by itself would have
given. Models are kept in build/anomaly, and a training that was stopped goes on from its checkpoint.

Data: Huang, Qiu and Yuan, "Surface defect saliency of magnetic tile" (2020); Xiao, Rasul and Vollgraf,
"Fashion-MNIST" (2017); Yang et al., "MedMNIST v2" (2023).

Run: python benchmarks/anomaly.py [--part tile] [--minutes 10] [--seeds 3] [--preset dae] [-s width=32] [--most N]
     [--score auto] [--alone] [--twins]
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import apercu
from apercu.api import Model
from apercu.data.images import ImageSet
from apercu.data.normal import defective
from apercu.data.open import Images, open_images
from apercu.fitting import RUN, prepare
from apercu.metrics import detection
from apercu.presets import FOR_TASKS, find
from apercu.settings import parse_settings
from apercu.store import RECIPE
from apercu.tasks._detector import Detector, Member, make, possible
from apercu.tasks._false_alarms import threshold
from apercu.tasks.anomaly import Anomaly
from apercu.training import Training

from record import SHARED, Record
from twins import drawn

PARTS = ("tile", "fashion", "pneumonia", "alarms")
SIDE, LEARNT = 256, 180
SPLITS, RATE = 20, 0.01
BUILD = Path(__file__).resolve().parents[1] / "build" / "anomaly"
CACHE = Path(tempfile.gettempdir()) / "apercu-benchmark-anomaly"
KEPT = ("image_auroc", "ap", "f1", "pixel_auroc", "aupro", "baseline_auroc", "baseline", "score")


def scaled(most: int | None) -> Path:
    """The magnetic tile images with a shorter side of 256 pixels, kept for the next time: DEFECT/NAME.png."""
    folder = CACHE / f"tile-{SIDE}-{most or 'all'}"
    if folder.is_dir():
        return folder
    partial_folder = folder.with_suffix(".partial")
    shutil.rmtree(partial_folder, ignore_errors=True)
    for kind in sorted((SHARED / "magnetic_tile").glob("MT_*")):
        name = kind.name.removeprefix("MT_").lower()
        place = partial_folder / name
        place.mkdir(parents=True)
        for file in sorted(kind.glob("*.jpg"))[:most]:
            with Image.open(file) as image:
                factor = SIDE / min(image.size)
                size = (round(factor * image.width), round(factor * image.height))
                image.convert("L").resize(size, Image.Resampling.BICUBIC).save(place / f"{file.stem}.png")
            if file.with_suffix(".png").is_file():
                with Image.open(file.with_suffix(".png")) as mask:
                    small = mask.convert("L").resize(size, Image.Resampling.BILINEAR)
                small.point(lambda value: 255 * (value > 127)).save(place / f"{file.stem}_mask.png")
    partial_folder.rename(folder)
    return folder


def tile_split(seed: int, most: int | None, twins: bool = False) -> Images:
    """Links to the scaled images in the layout of the field, and what is in there; `twins`: images of one tile may be
    on both sides."""
    source, root = scaled(most), CACHE / f"split-{seed}-{most or 'all'}{'-twins' if twins else ''}"
    shutil.rmtree(root, ignore_errors=True)
    free = sorted(source.glob("free/*.png"))
    count = LEARNT if most is None else len(free) * 2 // 3
    anyhow = np.random.default_rng(seed).permutation(len(free)).argsort() < count
    for file, learnt in zip(free, anyhow if twins else drawn(free, count, seed), strict=True):
        _link(file, root / ("train" if learnt else "test") / "good" / file.name)
    for file in sorted(source.glob("*/*.png")):
        if file.parent.name != "free":
            mask = file.stem.endswith("_mask")
            _link(file, root / ("ground_truth" if mask else "test") / file.parent.name / file.name)
    return open_images(root)


def _link(file: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(file)


def fewer(images: Images, most: int | None) -> Images:
    """At most so many of each split, for a trial."""
    if most is None:
        return images
    for name in ("train", "val", "test"):
        part: ImageSet = getattr(images, name)
        chosen = np.random.default_rng(0).permutation(len(part))[:most]
        setattr(images, name, part.subset(np.sort(chosen)))
    return images


class Bench:
    """One way to train, and what is measured of its models."""

    def __init__(
        self, preset: str, settings: dict[str, Any], minutes: float, score: str, alone: bool, seed: int
    ) -> None:
        self.preset, self.settings, self.score, self.with_alone = preset, settings, score, alone
        self.training = Training(minutes=minutes, batch=32, seed=seed)

    def train(self, images: Images, normal: str, name: str) -> Model:
        """A model of the normal images, from the folder of that name if it is there."""
        folder = BUILD / f"{name}, {self.preset}, {self.training.minutes:g} minutes, seed {self.training.seed}"
        if not (folder / RECIPE).exists():
            how = {"preset": self.preset, "settings": self.settings, "normal": normal, "training": self.training}
            job = prepare(images, **how, out=folder, resume=(folder / RUN).exists())
            for _ in job.run():
                pass
            job.finish()
        return apercu.load(folder)

    def measure(self, images: Images, normal: str, name: str) -> dict[str, Any]:
        """What evaluate says of the test images."""
        model = self.train(images, normal, name)
        task = Anomaly(model, score=self.score, normal=normal)
        about = task.fit(*self.normal_ones(images, normal))
        found = task.evaluate(images.test)
        kinds = {name: row["image_auroc"] for name, row in found["per_type"].items()}
        rest = {"per_type": kinds, "false_alarms": found["false_alarms"]["rate"], "chosen_by": about.get("aurocs")}
        figure = {name: found[name] for name in KEPT} | rest
        if self.with_alone:
            figure |= {"alone": self.alone(model, images, normal)}
        rounded: dict[str, Any] = _rounded(figure)
        return rounded

    def normal_ones(self, images: Images, normal: str) -> tuple[ImageSet, ImageSet]:
        """Those to learn from and those held out: nothing knows what odd images are like."""
        train, val = (part.subset(~defective(part, normal)[0]) for part in (images.train, images.val))
        return train, val

    def alone(self, model: Model, images: Images, normal: str) -> dict[str, float | None]:
        """Image AUROC of every score by itself, on the test images."""
        detector = Detector(model, [Member(name, make(model, name, 0)) for name in possible(model)])
        detector.fit(images.train.subset(~defective(images.train, normal)[0]))
        each, bad = detector.each(images.test), defective(images.test, normal)[0]
        return {member.name: detection(each[:, k], bad)[0] for k, member in enumerate(detector.members)}

    def alarms(self, images: Images, normal: str) -> dict[str, Any]:
        """The measured rate of false alarms over splits of the normal images that nothing was learnt from."""
        model = self.train(images, normal, "alarms")
        task = Anomaly(model, score=self.score, normal=normal)
        task.fit(*self.normal_ones(images, normal))
        learnt, scores = task.learnt(images.test), []
        for part in (images.val, images.test):
            unseen = part.subset(~defective(part, normal)[0])
            scores.append(learnt.detector.joined(learnt.detector.each(unseen)))
        pooled, rates = np.concatenate(scores), []
        for split in range(SPLITS):
            order = np.random.default_rng(split).permutation(len(pooled))
            one, other = pooled[order[::2]], pooled[order[1::2]]
            rates.append(float((other > threshold(one, RATE).value).mean()))
        figure = {"promised": RATE, "images": len(pooled), "mean": float(np.mean(rates)), "least": min(rates)}
        rounded: dict[str, Any] = _rounded(figure | {"most": max(rates), "score": learnt.about["score"]})
        return rounded


def _rounded(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return round(value, 4) if isinstance(value, float) else value


def main(parts: list[str], bench: dict[str, Any], seeds: int, most: int | None, twins: bool) -> None:
    """Figure by figure; what is there is not measured again."""
    name = "anomaly" if most is None else "anomaly-trial"
    record = Record(name, f"normal images alone, scores chosen without real defects; {SPLITS} splits for false alarms")
    how = f"{bench['preset']} {bench['settings']}, {bench['score']}, {bench['minutes']:g} minutes"
    if "tile" in parts:
        name = "tile with twins" if twins else "tile"
        for seed in range(seeds):
            one, split = Bench(**bench, seed=seed), partial(tile_split, seed, most, twins)
            record.once(f"{name}, {how}, split {seed}", lambda b=one, d=split, n=name: b.measure(d(), "", n))
    if "fashion" in parts or "alarms" in parts:
        data = fewer(open_images(SHARED / "fashion_mnist"), most)
        one = Bench(**bench, seed=0)
        if "alarms" in parts:
            first = data.train.classes[0]
            record.once(f"alarms, {how}", partial(one.alarms, data, first))
        for kind in data.train.classes if "fashion" in parts else ():
            record.once(f"fashion {kind}, {how}", partial(one.measure, data, kind, f"fashion {kind}"))
        known = [record.figures.get(f"fashion {kind}, {how}") for kind in data.train.classes]
        if all(known):
            for figure in ("image_auroc", "baseline_auroc"):
                values = [row[figure] for row in known if row is not None]
                record.put(f"fashion, {how}, mean {figure}", round(float(np.mean(values)), 4))
    if "pneumonia" in parts:
        file = next((SHARED / "pneumoniamnist").glob("*.npz"))
        data = fewer(open_images(file), most)
        record.once(f"pneumonia, {how}", partial(Bench(**bench, seed=0).measure, data, "0", "pneumonia"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=PARTS, action="append")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--preset", default=FOR_TASKS["anomaly"][0])
    parser.add_argument("-s", "--setting", action="append", default=[])
    parser.add_argument("--most", type=int)
    parser.add_argument("--twins", action="store_true", help="images of one tile may be on both sides of a split")
    parser.add_argument("--score", default="auto")
    parser.add_argument("--alone", action="store_true", help="each score by itself too")
    arguments = parser.parse_args()
    chosen = parse_settings(arguments.setting, find(arguments.preset))
    usual = FOR_TASKS["anomaly"][1] if arguments.preset == FOR_TASKS["anomaly"][0] else {}
    way = {
        "preset": arguments.preset,
        "settings": usual | chosen,
        "minutes": arguments.minutes,
        "score": arguments.score,
        "alone": arguments.alone,
    }
    main(arguments.part or list(PARTS), way, arguments.seeds, arguments.most, arguments.twins)
