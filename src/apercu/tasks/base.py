"""The contract of a task: three verbs on a trained model: fit, call, evaluate."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from apercu.api import Model
from apercu.data.images import ImageSet

Result = dict[str, Any]


class Task(ABC):
    """Does one job from the code of a model.

    The keyword arguments of a task's constructor are its settings, on the command line `-s name=value`.
    """

    def __init__(self, model: Model) -> None:
        self.model = model

    needs_images: bool = True
    """Whether the call reads images."""

    def fit(self, images: ImageSet, held_out: ImageSet | None = None) -> Result:
        """Learn what the task needs beyond the model, and keep it in the model's folder; most need nothing.

        `held_out`: images of the same kind that it must not learn from, to measure with what it learnt.
        """
        return {}

    @abstractmethod
    def __call__(self, images: ImageSet | None, out: Path | None = None) -> Result:
        """Do the job for these images; files go into the folder `out`. The result can be written as JSON."""

    @abstractmethod
    def evaluate(self, images: ImageSet) -> Result:
        """Measure how well the job is done on these images. The result can be written as JSON."""
