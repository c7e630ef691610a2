"""`apercu TASK MODEL IMAGES` for every task there is, and `apercu evaluate`: one mechanism for all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from apercu import registry
from apercu.cli.options import (
    Channels,
    Device,
    Fit,
    FitName,
    Images,
    Json,
    Learn,
    ModelFolder,
    Settings,
    Size,
    SomeImages,
    Split,
)
from apercu.cli.output import in_words, note, show
from apercu.cli.signatures import task_settings
from apercu.errors import ApercuError
from apercu.settings import parse_settings

if TYPE_CHECKING:
    from apercu.api import Model
    from apercu.data.images import ImageSet


@dataclass(frozen=True)
class View:
    """How images are opened for a model, where not as its own were."""

    size: str | None
    fit: FitName | None
    channels: int | None

    def open(self, model: Model, images: str, split: str) -> ImageSet:
        """The images of one split as the model sees them."""
        return model.images(images, split, size=self.size, fit=self.fit, channels=self.channels)


def evaluate(
    task: Annotated[str, typer.Argument(metavar="TASK", help=f"One of: {', '.join(registry.names('tasks'))}.")],
    model: ModelFolder,
    images: Images,
    setting: Settings = None,
    learn: Learn = None,
    split: Split = "test",
    size: Size = None,
    fit: Fit = None,
    channels: Channels = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Measure how well a task is done, on images that the model did not learn from.

    Example: apercu evaluate classify model photos --json
    """
    view = View(size, fit, channels)
    ready = _ready(task, model, setting, learn, view, device)
    measured = ready.evaluate(view.open(ready.model, images, split))
    show(measured, in_words(measured), as_json)


def task_command(name: str) -> Callable[..., None]:
    """The command of the task `name`."""

    def run(
        model: ModelFolder,
        images: SomeImages = None,
        out: Annotated[
            Path | None, typer.Option("-o", "--out", metavar="OUT", help="The folder that files are written to.")
        ] = None,
        setting: Settings = None,
        learn: Learn = None,
        split: Split = "all",
        size: Size = None,
        fit: Fit = None,
        channels: Channels = None,
        device: Device = "auto",
        as_json: Json = False,
    ) -> None:
        view = View(size, fit, channels)
        if images is None and registry.part("tasks", name).needs_images:
            raise ApercuError(f"{name} needs images: apercu {name} {model} IMAGES")
        ready = _ready(name, model, setting, learn, view, device)
        done = ready(None if images is None else view.open(ready.model, images, split), out)
        show(done, in_words(done), as_json)

    return run


def task_help(name: str) -> str:
    """The help of the task `name`: what its file says, and its settings."""
    # \b keeps the lines of a paragraph as they are: those of an equation, and the settings.
    text = registry.docstring("tasks", name).replace("\n\n  ", "\n\n\b\n  ")
    if "Example:" not in text:
        text += f"\n\nExample: apercu {name} MODEL IMAGES"
    settings = [f"  {setting}: {about}" for setting, about in task_settings(name).items()]
    return "\n".join([text, "", "\b", "Settings, each given with -s:", *settings] if settings else [text])


def _ready(name: str, folder: Path, pairs: list[str] | None, learn: str | None, view: View, device: str) -> Any:  # noqa: ANN401 - the tasks' base class is too heavy to import for a type
    """The task on its model, fitted first where there is something to learn from."""
    from apercu.api import load

    part = registry.part("tasks", name)
    settings = parse_settings(pairs or [], part)
    task = part(load(folder, device), **settings)
    if learn is not None:
        note(f"fitting {name} on {learn}")
        fitted = task.fit(view.open(task.model, learn, "train"))
        note(in_words(fitted))
    return task
