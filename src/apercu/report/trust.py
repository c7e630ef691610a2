"""How far to trust an answer: what its probability, its set and its silence are worth on images of known classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from apercu import metrics
from apercu.api import Model
from apercu.pages.words import FIXED, percent
from apercu.report.recognition import Recognition

BINS = 5


@dataclass(frozen=True)
class Trust:
    """In sentences, and as a table: (mean probability, share that is right, images) of answers of like probability."""

    sentences: list[str]
    reliability: list[tuple[float, float, int]]


def show_trust(model: Model, found: Recognition) -> Trust:
    """Measure the answers to images whose class is known."""
    known = found.known
    answers = [found.answers[i] for i in known.tolist()]
    sure, right = found.probability[known], (found.truth == found.predicted)[known]
    held = [found.classes[k] in answer["set"] for k, answer in zip(found.truth[known].tolist(), answers, strict=True)]
    size = np.mean([len(answer["set"]) for answer in answers])
    answered = ~np.array([answer["abstain"] for answer in answers])
    sentences = [
        f"Here the probability of an answer and the share of answers that are right differ by "
        f"{percent(metrics.calibration_error(sure, right) or 0.0)} on average."
    ]
    if found.calibrated is None:
        sentences.append("They were not compared with held-out labels before, so nothing is promised of new answers.")
    else:
        before, on = found.calibrated["ece_before"], f"{found.calibrated['n']:,} {found.calibrated['on']}"
        sentences += [
            f"Calibrated by {on}, where the difference was {percent(before)} before.",
            f"Sets that are to hold the class of {percent(found.coverage)} of all images hold it for "
            f"{percent(float(np.mean(held)))}; they hold {size:.2f} classes on average.",
        ]
        if answered.any():
            sentences.append(
                f"It abstains from {percent(float(1 - answered.mean()))} of the images; of its other answers "
                f"{percent(float(right[answered].mean()))} are right."
            )
        else:
            sentences.append("It abstains from all of the images: too few labels show how seldom it is wrong.")
    tried = model.recipe.tasks.get("classify", {}).get("generated", {})
    if "gain" in tried:
        what = "kept" if tried["used"] else "dropped"
        gain = f"{100 * tried['gain']:+.1f}".replace("-", "−")
        sentences.append(
            f"Generated images were tried as further examples and {what}: they changed the cross-validated accuracy by "
            f"{gain} ± {100 * tried['noise']:.1f}{FIXED}points."
        )
    return Trust(sentences, metrics.reliability(sure, right, BINS))
