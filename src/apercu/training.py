"""How to train: the settings of a run, and the course of its learning rate."""

from __future__ import annotations

import math
from dataclasses import dataclass

from apercu.errors import ApercuError

EPOCHS, STEPS = 30, 1000


@dataclass(frozen=True)
class Training:
    """How to train.

    `epochs` passes over the images, or as many as fit into `minutes`; by default 30, and more where the images are so
    few that these would be less than 1,000 steps; `batch`: images in a step, computed in `accumulate` parts;
    `learning_rate`: its peak, reached after a short rise and followed by half a cosine down to 0; `clip`: largest norm
    of the gradient of the price per pixel; `ema`: decay of the averaged weights, which are the ones that are kept;
    `patience`: validations without improvement before stopping, 0 for never; `labelled_share`: of every batch, where
    only some images are labelled; `balance`: whether labelled images are drawn so that every class is seen equally
    often; `crop`: learn from a part of each image of so many pixels a side, drawn anew in every epoch;
    `checkpoint_seconds`: time between two checkpoints.
    """

    epochs: int | None = None
    minutes: float | None = None
    batch: int = 128
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    clip: float = 1.0
    ema: float = 0.999
    patience: int = 0
    labelled_share: float = 0.25
    balance: bool = False
    crop: int | None = None
    accumulate: int = 1
    validations: int = 40
    checkpoint_seconds: float = 20.0
    seed: int = 0
    device: str = "auto"
    precision: str = "auto"
    compile: bool = False

    def __post_init__(self) -> None:
        for name in ("epochs", "crop", "batch", "accumulate", "validations"):
            value = getattr(self, name)
            if (value is not None or name not in ("epochs", "crop")) and (not isinstance(value, int) or value < 1):
                raise ApercuError(f"{name} must be a whole number of at least 1, not {value!r}")
        for name, most in (("patience", 10**9), ("seed", 2**32 - 1)):
            value = getattr(self, name)
            if not (isinstance(value, int) and 0 <= value <= most):
                raise ApercuError(f"{name} must be a whole number from 0 to {most}, not {value!r}")
        for name in ("minutes", "learning_rate", "clip"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, int | float) and 0 < value < math.inf):
                raise ApercuError(f"{name} must be a positive number, not {value!r}")


def passes(settings: Training, per_epoch: int) -> int:
    """How many epochs to train where one has `per_epoch` steps."""
    return settings.epochs or max(EPOCHS, math.ceil(STEPS / per_epoch))


def schedule(step: int, steps: int | None) -> float:
    """Linear rise over 100 steps or a tenth of the run, then half a cosine to 0."""
    rise = 100 if steps is None else max(1, min(100, steps // 10))
    if step < rise or steps is None:
        return min(1.0, (step + 1) / rise)
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))
