"""A model on disk is a folder: a JSON recipe and safetensors. Never pickle: opening a model runs none of its code.

MODEL/apercu.json          how to build it, what it was trained on, how well it does, hashes of its files
MODEL/model.safetensors    its weights
MODEL/history.csv          its training, if it was trained here
MODEL/TASK.*               what a task fitted on top of it
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from apercu.checkpoint import write_atomically
from apercu.errors import ApercuError, FormatError
from apercu.model import Autoencoder
from apercu.presets import build
from apercu.types import ImageSpec

FORMAT = 2
RECIPE, WEIGHTS = "apercu.json", "model.safetensors"


def _taught_by_itself(recipe: dict[str, Any]) -> dict[str, Any]:
    """Format 1 knew one way of teaching unlabelled images."""
    if recipe["preset"] != "vae_cnn":
        return recipe
    return recipe | {"settings": recipe["settings"] | {"teach": "sure"}}


UPGRADES: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _taught_by_itself}
"""Recipes of format k are turned into format k + 1 by UPGRADES[k]."""


@dataclass
class Recipe:
    """Everything that is known of a model but its weights."""

    preset: str
    settings: dict[str, Any]
    image: ImageSpec
    classes: list[str] = field(default_factory=list)
    seed: int = 0
    training: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    tasks: dict[str, Any] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    format: int = FORMAT

    def __post_init__(self) -> None:
        # JSON has no tuples.
        self.settings = {k: tuple(value) if isinstance(value, list) else value for k, value in self.settings.items()}

    def build(self) -> Autoencoder:
        """The untrained model."""
        return build(self.preset, self.image, len(self.classes), self.settings)


def save(model: Autoencoder, recipe: Recipe, folder: Path) -> None:
    """Write the weights, then the recipe with their hash: a folder with a recipe is always whole."""
    folder.mkdir(parents=True, exist_ok=True)
    add_file(recipe, folder, WEIGHTS, _weights(model))


def copy_files(recipe: Recipe, source: Path, folder: Path) -> None:
    """Copy what tasks keep beside a model into another folder.

    Raises:
        FormatError: a file that is damaged or no longer there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in recipe.files:
        if name != WEIGHTS and source.resolve() != folder.resolve():
            write_atomically(folder / name, read_file(recipe, source, name))


def weights_digest(model: Autoencoder) -> str:
    """The hash that the file of its weights has, or would have."""
    return hashlib.sha256(_weights(model)).hexdigest()


def _weights(model: Autoencoder) -> bytes:
    return save_tensors({name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()})


def add_file(recipe: Recipe, folder: Path, name: str, data: bytes) -> None:
    """Write one file of the model and its hash into the recipe."""
    write_atomically(folder / name, data)
    recipe.files[name] = hashlib.sha256(data).hexdigest()
    save_recipe(recipe, folder)


def save_recipe(recipe: Recipe, folder: Path) -> None:
    """Write `apercu.json`."""
    text = json.dumps(asdict(recipe), indent=2, ensure_ascii=False, allow_nan=False)
    write_atomically(folder / RECIPE, text.encode())


def load_recipe(folder: Path) -> Recipe:
    """Read `apercu.json`, upgraded to today's format.

    Raises:
        FormatError: not a model of Apercu, damaged, or from a newer version.
    """
    path = folder / RECIPE
    if not path.is_file():
        raise FormatError(
            f"{folder} is not an Apercu model: it has no {RECIPE}; make one with: apercu fit IMAGES -o {folder}"
        )
    try:
        content = json.loads(path.read_bytes())
        version = content["format"]
        if not isinstance(version, int) or version > FORMAT:
            raise FormatError(f"{folder} has format {version} and this Apercu reads up to {FORMAT}; update Apercu")
        content = upgraded(content)
        unknown = set(content) - {f.name for f in fields(Recipe)}
        if unknown:
            raise FormatError(f"{path} has entries that this Apercu does not know: {', '.join(sorted(unknown))}")
        return Recipe(**(content | {"image": ImageSpec(**content["image"])}))
    except FormatError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FormatError(f"{path} is damaged ({error}); restore it from a copy, or train again") from error


def upgraded(content: dict[str, Any]) -> dict[str, Any]:
    """A recipe of any format up to today's, in today's."""
    for number in range(content["format"], FORMAT):
        content = UPGRADES[number](content)
    return content | {"format": FORMAT}


def read_file(recipe: Recipe, folder: Path, name: str) -> bytes:
    """The bytes of one file of the model, checked against the recipe.

    Raises:
        FormatError: missing, or not the bytes that were saved.
    """
    try:
        data = (folder / name).read_bytes()
    except OSError as error:
        raise FormatError(f"{folder / name} cannot be read ({error.strerror}); restore it, or train again") from error
    if hashlib.sha256(data).hexdigest() != recipe.files.get(name):
        raise FormatError(
            f"{folder / name} is damaged or was changed: its hash is not the one in {RECIPE}; restore it from a copy, "
            "or train again"
        )
    return data


def load(folder: Path) -> tuple[Autoencoder, Recipe]:
    """The model in evaluation mode, and its recipe.

    Raises:
        FormatError: a folder that is damaged, foreign, or from a newer version.
    """
    recipe = load_recipe(folder)
    data = read_file(recipe, folder, WEIGHTS)
    try:
        with torch.random.fork_rng():
            model = recipe.build()
        model.load_state_dict(load_tensors(data))
    except (SafetensorError, RuntimeError, TypeError, ApercuError) as error:
        reason = str(error).splitlines()[0]
        raise FormatError(f"the weights in {folder} do not fit its recipe ({reason}); train again") from error
    return model.eval(), recipe
