"""How a model was made, and how to make it again: the command, and the same in Python."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path
from typing import Any

from apercu.api import Model
from apercu.presets import defaults
from apercu.store import Recipe
from apercu.training import Training

OPTIONS = (
    "epochs",
    "minutes",
    "batch",
    "accumulate",
    "learning_rate",
    "patience",
    "seed",
    "device",
    "precision",
    "compile",
)
"""The settings of a training that `apercu fit` has options for; the others are set in Python."""


@dataclasses.dataclass(frozen=True)
class Again:
    """Tables of settings, and what to type; `command` is None where only Python can do it, for the reason given."""

    tables: list[tuple[str, list[tuple[str, str]]]]
    command: str | None
    python: str
    reason: str


def make_again(model: Model) -> Again:
    """The settings of this model and how to run them again."""
    recipe = model.recipe
    changed = _changed(recipe)
    beyond = sorted(set(changed) - set(OPTIONS))
    reason = ""
    if not _named(recipe):
        reason = "The images were handed over in Python and have no name that a command could open."
    elif beyond:
        reason = f"A command has no option for {', '.join(beyond)}."
    return Again(_tables(model), None if reason else _command(model), _python(model), reason)


def _named(recipe: Recipe) -> bool:
    """Whether the images came from a place with a name; arrays are called by their type, as ndarray."""
    origin = str(recipe.data.get("origin", ""))
    return bool(origin) and (not origin.isidentifier() or Path(origin).exists())


def _changed(recipe: Recipe) -> dict[str, Any]:
    """The settings of the training that are not the usual ones."""
    usual = dataclasses.asdict(Training())
    return {name: value for name, value in recipe.training.items() if name in usual and value != usual[name]}


def _chosen(recipe: Recipe) -> dict[str, Any]:
    """The settings of the preset that are not the usual ones."""
    usual = defaults(recipe.preset)
    return {name: value for name, value in recipe.settings.items() if name not in usual or value != usual[name]}


def _request(recipe: Recipe) -> dict[str, Any]:
    """What was asked of the images, without what is usual anyway."""
    request = {name: value for name, value in recipe.data.get("request", {}).items() if value not in (None, False)}
    if request.get("fit") == "error":
        del request["fit"]
    size = request.get("size")
    if isinstance(size, list | tuple):
        request["size"] = "x".join(str(side) for side in size)
    return request


def _command(model: Model) -> str:
    recipe = model.recipe
    words = ["apercu", "fit", str(recipe.data["origin"]), "-o", model.folder.name if model.folder else "model"]
    words += ["--preset", recipe.preset]
    for name, value in _chosen(recipe).items():
        words += ["-s", f"{name}={','.join(map(str, value)) if isinstance(value, tuple) else value}"]
    for name, value in (_request(recipe) | _changed(recipe)).items():
        words += [f"--{name.replace('_', '-')}"] if value is True else [f"--{name.replace('_', '-')}", str(value)]
    return shlex.join(words)


def _python(model: Model) -> str:
    recipe = model.recipe
    name = model.folder.name if model.folder else "model"
    arguments = [repr(str(recipe.data["origin"])) if _named(recipe) else "images", f"preset={recipe.preset!r}"]
    request = _request(recipe)
    if str(request.get("labels", "")).isdigit():
        request["labels"] = int(request["labels"])
    arguments += [f"{key}={value!r}" for key, value in request.items() if key in ("labels", "size", "fit", "channels")]
    if _chosen(recipe):
        arguments.append(f"settings={_chosen(recipe)!r}")
    changed = _changed(recipe)
    if changed:
        arguments.append(f"training=apercu.Training({', '.join(f'{key}={value!r}' for key, value in changed.items())})")
    arguments.append(f"out={name!r}")
    lines = ["import apercu", "", "model = apercu.fit(", *(f"    {argument}," for argument in arguments), ")"]
    lines += [f"model = apercu.load({name!r})  # later", 'codes = model.encode("new-images")']
    return "\n".join(lines)


def _tables(model: Model) -> list[tuple[str, list[tuple[str, str]]]]:
    recipe = model.recipe
    spec, data = recipe.image, recipe.data
    size = f"{spec.height}×{spec.width}" if spec.uniform else f"up to {spec.height}×{spec.width}"
    network = [
        ("preset", recipe.preset),
        *((name, str(value)) for name, value in recipe.settings.items()),
        ("learnt numbers", f"{model.network.parameter_count():,}"),
        ("objective", repr(model.network.objective)),
    ]
    images = [
        ("origin", str(data.get("origin", "unknown"))),
        ("size", f"{size}, {spec.channels} {'channel' if spec.channels == 1 else 'channels'}"),
        ("white", f"{spec.maximum:g}"),
        *((name, f"{data[key]:,}") for name, key in _COUNTS.items() if key in data),
        *((f"asked: {name}", str(value)) for name, value in _request(recipe).items()),
        ("fingerprint", str(data.get("fingerprint", ""))[:16]),
    ]
    training = [(name.replace("_", " "), str(value)) for name, value in recipe.training.items() if value is not None]
    versions = list(recipe.versions.items())
    tables = [("Network", network), ("Images", images), ("Training", training), ("Versions", versions)]
    return [(title, [row for row in rows if row[1]]) for title, rows in tables if rows]


_COUNTS = {"training": "train", "labelled": "labelled", "validation": "val", "test": "test"}
