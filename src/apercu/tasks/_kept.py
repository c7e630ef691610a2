"""A fitted classifier, read again from the folder of its model."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from apercu import store
from apercu.api import Model
from apercu.errors import ApercuError
from apercu.tasks import _finetune, _neighbours, _probe


def restore(model: Model, method: str, classes: int) -> Any:  # noqa: ANN401
    """The classifier of this method that was kept beside the model.

    Raises:
        ApercuError: the model has no folder.
        FormatError: the file is missing or damaged.
    """
    if model.folder is None:
        raise ApercuError("the classifier was fitted in another process and the model has no folder; fit it again")
    tensors: dict[str, Callable[[bytes], Any]] = {
        "finetune": partial(_finetune.restore, model, classes),
        "neighbours": _neighbours.restore,
    }
    file = "classify.safetensors" if method in tensors else "classify.skops"
    return tensors.get(method, _probe.restore)(store.read_file(model.recipe, model.folder, file))
