"""Commands that look at a model: `info` and `report`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from apercu.cli.describe import recipe_in_words
from apercu.cli.options import Device, Json, ModelFolder
from apercu.cli.output import show
from apercu.errors import ApercuError


def info(model: ModelFolder, as_json: Json = False) -> None:
    """Say what a model is, what it learnt from, and how well it does.

    Example: apercu info model
    """
    from apercu.store import load_recipe

    recipe = load_recipe(model)
    show(asdict(recipe), recipe_in_words(recipe), as_json)


def report(
    model: ModelFolder,
    images: Annotated[
        str | None,
        typer.Argument(metavar="IMAGES", help="The images it learnt from; those of its recipe if left out."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", metavar="FILE", help="The page to write; MODEL/report.html if left out."),
    ] = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Write one HTML page that shows what a model learnt.

    Example: apercu report model -o report.html
    """
    from apercu.api import load
    from apercu.data.labels import hide_labels
    from apercu.data.open import open_images
    from apercu.report import write_report

    opened = load(model, device)
    about = opened.recipe.data
    request = about.get("request", {})
    own = images is None
    try:
        found = open_images(
            about["origin"] if own else images,
            size=request.get("size"),
            fit=request.get("fit", "error"),
            channels=request.get("channels"),
        )
        if own:  # other images keep all of their labels
            found = hide_labels(found, request.get("labels"), opened.recipe.seed)
    except (ApercuError, KeyError) as error:
        if not own:
            raise
        raise ApercuError(
            f"the images that this model learnt from cannot be opened again ({error}); name IMAGES"
        ) from error
    page = write_report(opened, found, out or model / "report.html")
    show({"report": str(page)}, f"the report is in {page}", as_json)
