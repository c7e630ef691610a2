"""Generated images as augmentation: drawn for every class, filtered by the classifier, kept only if they help.

Images are drawn from the codes of a class's labelled images, decoded, encoded again, and thrown away unless the
classifier that these labels make gives them to that class. All of it is done anew within every fold of the
cross-validation, so the images that measure the gain had no part in the drawing. They are used if the gain exceeds
twice its standard error over the labelled images, each of which is asked with and without.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from apercu.api import Model
from apercu.data.images import ImageSet
from apercu.tasks._calibration import fit_temperature, tempered
from apercu.tasks._probe import Array, Fitted, Ints, fit_with, out_of_fold, said
from apercu.tasks.generate import Generate

SURE, ERRORS = 0.5, 2  # the least probability of the class meant; standard errors that a gain must exceed


def enrich(
    model: Model, labelled: ImageSet, codes: Array, without: Fitted, count: int, seed: int
) -> tuple[Fitted, dict[str, Any]]:
    """The probe with `count` generated images of every class if they help, else as it was; and what was measured.

    "gain": of cross-validated accuracy, with its standard error "noise"; "kept": of the "drawn" images those that
    passed the filter; "used": whether the probe learnt from them.
    """
    y, classes = labelled.labels, len(labelled.classes)
    if len(without.rows) == 0:
        return without, {"used": False, "reason": "with one label in a class there is nothing to measure a gain with"}

    def more(rows: Ints, probe: Any) -> tuple[Array, Ints]:  # noqa: ANN401
        drawn = Generate(model, count=count, source="posterior", seed=seed).draw(labelled.subset(rows))
        meant = np.repeat([labelled.classes.index(name) for name in drawn], count)
        again = model.features(np.concatenate(list(drawn.values())))
        passed = tempered(said(probe, again, classes), temperature)[np.arange(len(meant)), meant] >= SURE
        kept[:] = int(passed.sum()), len(meant)
        return again[passed], meant[passed]

    kept, temperature = [0, 0], fit_temperature(without.logits, y[without.rows])
    logits = out_of_fold(without.fit, codes, y, without.rows, classes, seed, more)
    truth = y[without.rows]
    difference = (logits.argmax(1) == truth).astype(float) - (without.logits.argmax(1) == truth)
    gain, noise = float(difference.mean()), float(difference.std(ddof=1) / np.sqrt(len(truth)))
    used = gain > ERRORS * noise
    found = {"used": used, "gain": gain, "noise": noise, "kept": kept[0], "drawn": kept[1]}
    if not used:
        return without, found
    probe = fit_with(without.fit, codes, y, np.arange(len(y)), more)
    return replace(without, probe=probe, logits=logits), found | {"kept": kept[0], "drawn": kept[1]}
