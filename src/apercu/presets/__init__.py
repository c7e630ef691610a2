"""Presets: one typed function each, a file for each family. The signature is the configuration, the command line's
options (`-s dim=64`), the saved recipe and the documentation."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from apercu.corruptions import parse
from apercu.errors import ApercuError
from apercu.model import Autoencoder
from apercu.presets.articles import ae, cae, vae, vae_cnn, vqvae
from apercu.presets.denoising import dae
from apercu.presets.masked import mae
from apercu.presets.pretrained import features
from apercu.presets.rated import codec
from apercu.settings import check_values
from apercu.types import ImageSpec

Preset = Callable[..., Autoencoder]
PRESETS: dict[str, Preset] = {
    preset.__name__: preset for preset in (ae, cae, vae, vae_cnn, vqvae, dae, mae, features, codec)
}

FOR_TASKS: dict[str, tuple[str, dict[str, Any]]] = {
    "restore": ("dae", {}),
    "compress": ("codec", {}),
    "segment": ("dae", {}),
    "anomaly": ("dae", {"corruption": "defects", "mark": 10.0, "depth": 3, "tile": 128}),
}
"""The preset that suits a task best, and the settings in which it then differs from its defaults."""


def find(preset: str) -> Preset:
    """The function of that name.

    Raises:
        ApercuError: no such preset.
    """
    if preset not in PRESETS:
        raise ApercuError(f"there is no preset {preset!r}; choose one of: {', '.join(PRESETS)}")
    return PRESETS[preset]


def for_task(task: str) -> tuple[str, dict[str, Any]]:
    """The preset for a task, and its settings.

    Raises:
        ApercuError: no preset is made for that task.
    """
    if task not in FOR_TASKS:
        raise ApercuError(f"no preset is made for a task {task!r}; there are: {', '.join(FOR_TASKS)}; or give --preset")
    preset, settings = FOR_TASKS[task]
    return preset, dict(settings)


def defaults(preset: str) -> dict[str, Any]:
    """The settings of `preset` where none is given.

    Raises:
        ApercuError: no such preset.
    """
    parameters = inspect.signature(find(preset)).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def check(preset: str, settings: dict[str, Any]) -> None:
    """See that `preset` has these settings and can use their values.

    Raises:
        ApercuError: no such preset, no such setting, or a value that means nothing.
    """
    check_values(settings, find(preset), ("dim", "width", "codes", "depth", "stages", "blocks"))
    parse(settings.get("corruption", ""))


def build(preset: str, image: ImageSpec, classes: int, settings: dict[str, Any]) -> Autoencoder:
    """The model that `preset` makes of these settings.

    Raises:
        ApercuError: no such preset, no such setting, or images that this preset cannot take.
    """
    check(preset, settings)
    model = PRESETS[preset](image, classes, **settings)
    if model.fixed_size and not image.uniform:
        raise ApercuError(
            f"the images differ in size (up to {image.height}×{image.width}) and preset {preset} needs one size; "
            "give --size HEIGHTxWIDTH, or use --preset vqvae, which takes any size"
        )
    return model
