"""All five systems by their presets on MNIST and Fashion-MNIST, each within ten minutes on two cores.

For three seeds of initialisation and label draw: accuracy on the official test set with 10 and 100 labels per class (by
a probe on the frozen code, chosen by cross-validation on these labels; `vae_cnn` by its joint head, trained on all
images and these labels), PSNR of reconstructions, and the use of the codebook. Beside them pythae's VAE and VQ-VAE with
the same layers, batch, learning rate and epochs, and the baselines without an autoencoder.

Run: python benchmarks/quickstart.py [--seeds 3] [--only vae,vqvae]      (pythae on PYTHONPATH; without it, ours alone)
     python benchmarks/quickstart.py --table                               (what was measured, as a table)
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import time
from functools import partial
from typing import Any

import numpy as np

from apercu.api import Model
from apercu.baselines import pca_svm, pixels_svm
from apercu.data.images import ImageSet
from apercu.data.labels import hide_labels
from apercu.data.open import Images, open_images
from apercu.fitting import prepare
from apercu.tasks import _probe
from apercu.tasks.classify import Classify
from apercu.tasks.reconstruct import Reconstruct
from apercu.training import Training

from peer import Peer
from record import SHARED, Record

DATA = ("mnist", "fashion_mnist")
LABELS = (10, 100)
BATCH = 256
RUNS: dict[str, tuple[dict[str, Any], int, float]] = {
    "ae": ({}, 50, 1e-3),
    "cae": ({}, 5, 1e-3),
    "vae": ({"dim": 32}, 6, 1e-3),
    "vqvae": ({"encoder": "conv", "dim": 32}, 8, 1e-3),
    "vae_cnn": ({"width": 16, "teach": "sure"}, 5, 2e-3),
}
"""Preset: settings beyond its defaults, epochs, learning rate."""
DOMAINS = {"mnist": "digits", "fashion_mnist": "objects"}
"""How `vae_cnn` may vary the images: clothes may be mirrored."""


def labelled(data: Images, per_class: int, seed: int) -> ImageSet:
    """The training images with this many labels per class known."""
    return hide_labels(data, per_class * len(data.train.classes), seed).train


def train(data: Images, preset: str, seed: int, domain: str = "") -> tuple[Model, float]:
    """Train by the preset; the seconds include validation."""
    settings, epochs, rate = RUNS[preset]
    settings = settings | ({"domain": domain} if domain else {})
    training = Training(epochs=epochs, batch=BATCH, learning_rate=rate, seed=seed, device="cpu", validations=epochs)
    job = prepare(data, preset=preset, settings=settings, training=training)
    started = time.monotonic()
    for _ in job.run():
        pass
    return job.finish(), time.monotonic() - started


def unsupervised(data: Images, preset: str, seed: int) -> dict[str, Any]:
    """Learn without labels, then probe."""
    model, seconds = train(data, preset, seed)
    result: dict[str, Any] = {"seconds": round(seconds), "psnr": Reconstruct(model).evaluate(data.test)["psnr"]}
    for per_class in LABELS:
        probe = Classify(model, method="best", seed=seed)
        chosen = probe.fit(labelled(data, per_class, seed))["method"]
        result[f"accuracy_{per_class}"] = probe.evaluate(data.test)["accuracy"]
        result[f"probe_{per_class}"] = chosen
    if preset == "vqvae":
        codes = [output.code.symbols for _, output in model.outputs(data.test, decode=False)]
        result["codebook_use"] = len({int(k) for part in codes if part is not None for k in part.unique()}) / 512
    return result


def joint(data: Images, domain: str, per_class: int, seed: int) -> dict[str, Any]:
    """Learn from all images and a few labels together."""
    few = hide_labels(data, per_class * len(data.train.classes), seed)
    model, seconds = train(few, "vae_cnn", seed, domain)
    accuracy = Classify(model).evaluate(data.test)["accuracy"]
    psnr = Reconstruct(model).evaluate(data.test)["psnr"]
    return {"seconds": round(seconds), "psnr": psnr, f"accuracy_{per_class}": accuracy}


def pythae(data: Images, preset: str, seed: int) -> dict[str, Any]:
    """The peer with the same layers, batch, learning rate and epochs, and the same probes."""
    settings, epochs, rate = RUNS[preset]
    peer = Peer(preset, data.train, {"likelihood": "mse"} | settings, seed)
    result: dict[str, Any] = {"seconds": round(peer.train(epochs, BATCH, rate)), **peer.measure(data.test)}
    test = peer.features(data.test)
    for per_class in LABELS:
        few = labelled(data, per_class, seed)
        few = few.subset(np.flatnonzero(few.labels >= 0))
        found = _probe.fit_probe(peer.features(few), few.labels, len(few.classes), "best", seed)
        result[f"accuracy_{per_class}"] = float((found.probe.predict(test) == data.test.labels).mean())
        result[f"probe_{per_class}"] = found.method
    return result


def baselines(data: Images, seed: int) -> dict[str, Any]:
    """What one gets without an autoencoder."""
    result = {}
    for per_class in LABELS:
        few = labelled(data, per_class, seed)
        for name, baseline in (("pixels_svm", pixels_svm), ("pca_svm", pca_svm)):
            predicted = baseline(few, data.test, seed)
            result[f"{name}_{per_class}"] = float((predicted == data.test.labels).mean())
    return result


def main(seeds: int, only: list[str]) -> None:
    """Seed by seed, so that a run that was stopped has whole seeds."""
    record = Record("quickstart", "five presets, test accuracy with 10 and 100 labels per class, PSNR in dB, seconds")
    opened = {name: open_images(SHARED / name) for name in DATA}
    with_peer = importlib.util.find_spec("pythae") is not None
    for seed, (name, data) in itertools.product(range(seeds), opened.items()):
        for preset in [p for p in RUNS if p in only and p != "vae_cnn"]:
            record.once(f"{name}, {preset}, seed {seed}", partial(unsupervised, data, preset, seed))
        for per_class in LABELS if "vae_cnn" in only else ():
            record.once(
                f"{name}, vae_cnn {per_class}, seed {seed}", partial(joint, data, DOMAINS[name], per_class, seed)
            )
        if "baselines" in only:
            record.once(f"{name}, baselines, seed {seed}", partial(baselines, data, seed))
        for preset in ("vae", "vqvae") if "pythae" in only and with_peer else ():
            record.once(f"{name}, pythae {preset}, seed {seed}", partial(pythae, data, preset, seed))


def table() -> str:
    """Means over seeds with their spread, in Markdown: a line for each system, the data sets one after the other."""
    gathered: dict[tuple[str, str], dict[str, list[float]]] = {}
    for name, figures in Record("quickstart", "").figures.items():
        data, system, _ = name.split(", ")
        if system == "baselines":
            for part in ("pixels_svm", "pca_svm"):
                own = {key.replace(part, "accuracy"): value for key, value in figures.items() if part in key}
                _gather(gathered, data, part.replace("pixels_svm", "pixels + SVM").replace("pca_svm", "PCA + SVM"), own)
        else:
            _gather(gathered, data, system.removesuffix(" 100").removesuffix(" 10"), figures)
    lines = [
        "| data | system | 10 labels a class | 100 labels a class | PSNR, dB | codes in use | minutes |",
        "|---" * 7 + "|",
    ]
    for (data, system), values in gathered.items():
        cells = [_cell(values, f"accuracy_{n}", 100, " %") for n in LABELS]
        cells += [
            _cell(values, "psnr", 1, ""),
            _cell(values, "codebook_use", 100, " %"),
            _cell(values, "seconds", 1 / 60, ""),
        ]
        lines.append(" | ".join([f"| {data}", system, *cells]) + " |")
    return "\n".join(lines)


def _gather(
    into: dict[tuple[str, str], dict[str, list[float]]], data: str, system: str, figures: dict[str, Any]
) -> None:
    for key, value in figures.items():
        if isinstance(value, int | float):
            into.setdefault((data, system), {}).setdefault(key, []).append(value)


def _cell(values: dict[str, list[float]], key: str, unit: float, sign: str) -> str:
    found = np.array(values.get(key, [])) * unit
    return f"{found.mean():.1f} ± {found.std(ddof=1):.1f}{sign}" if len(found) > 1 else "–"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", default=",".join([*RUNS, "baselines", "pythae"]))
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args()
    if arguments.table:
        print(table())
    else:
        main(arguments.seeds, arguments.only.split(","))
