"""The main job on real images that need no download: 100 labels of scikit-learn's scans of handwritten digits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from apercu.api import Model
from apercu.baselines import BASELINES
from apercu.data.open import open_images
from apercu.fitting import Job, prepare
from apercu.report import write_report
from apercu.tasks.classify import Classify
from apercu.tasks.generate import Generate
from apercu.tasks.reconstruct import Reconstruct
from apercu.training import Training

IMAGES, LABELS, SEEDS = "sklearn:digits", 100, (0, 1, 2)
OURS = "VAE-CNN (Apercu)"


def demo(out: Path, echo: Callable[[str], None], epochs: int = 30) -> dict[str, Any]:
    """Train `vae_cnn` and the baselines on the same labels for three seeds; write the model, its report and samples.

    Returns the table: name, mean accuracy on the test split, and its standard deviation over seeds.
    """
    data = open_images(IMAGES)
    echo(f"{IMAGES}: {len(data.train)} images to learn from, {LABELS} of them labelled; {len(data.test)} to test on")
    scores: dict[str, list[float]] = {OURS: []}
    jobs = [_job(out / "model" if seed == SEEDS[0] else None, seed, epochs) for seed in SEEDS]
    models: list[Model] = []
    for job, seed in zip(jobs, SEEDS, strict=True):
        for name, baseline in BASELINES.items():
            answers = baseline(job.data.train, data.test, seed)
            scores.setdefault(name, []).append(float((answers == data.test.labels).mean()))
        for _ in job.run():
            pass
        models.append(job.finish())
        scores[OURS].append(float(Classify(models[-1]).evaluate(data.test)["accuracy"]))
        echo(f"seed {seed}: " + ", ".join(f"{name} {values[-1]:.1%}" for name, values in scores.items()))
    rows = [
        {
            "name": name,
            "accuracy": round(float(np.mean(values)), 4),
            "spread": round(float(np.std(values, ddof=1)), 4),
            "ours": name == OURS,
        }
        for name, values in scores.items()
    ]
    few = jobs[0].data.train
    Reconstruct(models[0])(data.test, out / "reconstructed")
    Generate(models[0], count=20)(few.subset(np.flatnonzero(few.labels >= 0)), out / "generated")
    report = write_report(models[0], data, out / "report.html", comparison=rows)
    return {"images": IMAGES, "labels": LABELS, "seeds": list(SEEDS), "table": rows, "report": str(report)}


def _job(folder: Path | None, seed: int, epochs: int) -> Job:
    training = Training(epochs=epochs, batch=64, seed=seed)
    settings = {"dim": 32}
    return prepare(
        IMAGES, preset="vae_cnn", settings=settings, labels=LABELS, out=folder, training=training, overwrite=True
    )
