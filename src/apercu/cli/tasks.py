"""`apercu TASK MODEL IMAGES` for every task there is, and `apercu evaluate`: one mechanism for all of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from apercu import registry
from apercu.cli.learn import Lesson, View, names_file, same
from apercu.cli.options import (
    Channels,
    Device,
    Fit,
    Images,
    Json,
    Labels,
    Learn,
    ModelFolder,
    Settings,
    Shots,
    Size,
    SomeImages,
    Split,
)
from apercu.cli.output import end, in_words, show
from apercu.cli.signatures import task_settings
from apercu.errors import ApercuError
from apercu.settings import parse_settings


def evaluate(
    task: Annotated[str, typer.Argument(metavar="TASK", help=f"One of: {', '.join(registry.names('tasks'))}.")],
    model: ModelFolder,
    images: Images,
    setting: Settings = None,
    learn: Learn = None,
    labels: Labels = None,
    shots: Shots = None,
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
    view, lesson = View(size, fit, channels), Lesson(learn, labels if learn else None, shots)
    ready = _ready(task, model, setting, lesson, view, device, images)
    measured = ready.evaluate(view.open(ready.model, images, split, _known(labels, learn, images)))
    show(measured, in_words(measured), as_json)


def task_command(name: str) -> Callable[..., None]:
    """The command of the task `name`."""
    has = task_settings(name)

    def run(
        model: ModelFolder,
        images: SomeImages = None,
        out: Annotated[
            Path | None, typer.Option("-o", "--out", metavar="OUT", help="The folder that files are written to.")
        ] = None,
        setting: Settings = None,
        learn: Learn = None,
        labels: Labels = None,
        shots: Shots = None,
        n: int | None = typer.Option(None, "-n", metavar="N", hidden="n" not in has, help="The same as -s n=N."),
        mask: str | None = typer.Option(
            None, "--mask", metavar="FILE|DIR", hidden="mask" not in has, help="The same as -s mask=FILE."
        ),
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
        short = {"n": n, "mask": mask}
        pairs = [*(setting or []), *(f"{key}={value}" for key, value in short.items() if value is not None)]
        lesson = Lesson(learn, labels if learn or not names_file(labels) else None, shots)
        ready = _ready(name, model, pairs, lesson, view, device, images)
        known = _known(labels, learn, images)
        done = ready(None if images is None else view.open(ready.model, images, split, known), out)
        end(done, as_json)

    return run


def task_help(name: str) -> str:
    """The help of the task `name`: what its file says, and its settings."""
    # \b keeps the lines of a paragraph as they are: those of an equation, and the settings.
    text = registry.docstring("tasks", name).replace("\n\n  ", "\n\n\b\n  ")
    if "Example:" not in text:
        text += f"\n\nExample: apercu {name} MODEL IMAGES"
    settings = [f"  {setting}: {about}" for setting, about in task_settings(name).items()]
    return "\n".join([text, "", "\b", "Settings, each given with -s:", *settings] if settings else [text])


def _known(labels: str | None, learn: str | None, images: str | None) -> str | None:
    """The CSV file `labels`, where it names labels of the images asked for, and not only of others to learn from."""
    return labels if names_file(labels) and (learn is None or same(learn, images)) else None


def _ready(
    name: str, folder: Path, pairs: list[str] | None, lesson: Lesson, view: View, device: str, asked: str | None
) -> Any:  # noqa: ANN401 - the tasks' base class is too heavy to import for a type
    """The task on its model, fitted first where there is something to learn from."""
    from apercu.api import load

    part = registry.part("tasks", name)
    settings = parse_settings(pairs or [], part)
    task = part(load(folder, device), **settings)
    lesson.teach(task, name, view, asked)
    return task
