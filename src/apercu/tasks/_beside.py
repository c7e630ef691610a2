"""What a task keeps beside a model: words in its recipe, arrays in files of its folder."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from apercu import store
from apercu.api import Model

Arrays = dict[str, NDArray[Any]]


class Beside:
    """Named arrays, each name with a few words about them; in memory where the model has no folder."""

    def __init__(self, model: Model, task: str = "classify") -> None:
        self.model, self.task = model, task
        self.arrays: dict[str, Arrays] = {}

    @property
    def about(self) -> dict[str, Any]:
        """The recipe's entry."""
        about: dict[str, Any] = self.model.recipe.tasks.get(self.task, {})
        return about

    def keep(self, name: str, arrays: Arrays, words: dict[str, Any]) -> None:
        """Keep arrays as `TASK.NAME.safetensors`, and the words in the recipe."""
        self.model.recipe.tasks.setdefault(self.task, {})[name] = words
        self.arrays[name] = arrays
        tensors = {key: torch.from_numpy(np.ascontiguousarray(values)) for key, values in arrays.items()}
        self.write(f"{name}.safetensors", save_tensors(tensors))

    def find(self, name: str) -> Arrays | None:
        """The arrays of that name; None where none were kept, or where they did not come with the model.

        Raises:
            FormatError: a file that is damaged.
        """
        if name not in self.about:
            return None
        folder, file = self.model.folder, f"{self.task}.{name}.safetensors"
        if name not in self.arrays and folder is not None and (folder / file).is_file():
            tensors = load_tensors(store.read_file(self.model.recipe, folder, file))
            self.arrays[name] = {key: values.numpy() for key, values in tensors.items()}
        return self.arrays.get(name)

    def write(self, ending: str, data: bytes) -> None:
        """Write `TASK.ENDING` and the recipe, where there is a folder."""
        if self.model.folder is not None:
            store.add_file(self.model.recipe, self.model.folder, f"{self.task}.{ending}", data)
