"""The arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

FitName = Literal["error", "resize", "crop", "pad"]

ModelFolder = Annotated[Path, typer.Argument(metavar="MODEL", help="The model's folder, made by apercu fit.")]
Images = Annotated[
    str,
    typer.Argument(
        metavar="IMAGES",
        help="A folder, an image, codes, a CSV, .npz, idx, parquet or COCO file, or sklearn:digits.",
    ),
]
SomeImages = Annotated[
    str | None, typer.Argument(metavar="IMAGES", help="What to do it for; a few tasks need no images.")
]
Settings = Annotated[
    list[str] | None,
    typer.Option("-s", "--setting", metavar="NAME=VALUE", help="One setting; may be given many times."),
]
Size = Annotated[str | None, typer.Option("--size", metavar="HxW", help="The size that every image gets, as 48x64.")]
Fit = Annotated[
    FitName | None,
    typer.Option("--fit", help="How images get that size; error, the default, takes only those that have it."),
]
Channels = Annotated[int | None, typer.Option("--channels", metavar="N", help="1 for grey, 3 for colour.")]
Split = Annotated[str, typer.Option("--split", metavar="NAME", help="Which images: train, val, test or all.")]
Learn = Annotated[
    str | None,
    typer.Option("--learn", metavar="IMAGES", help="Fit the task on the training images of these first, and keep it."),
]
Labels = Annotated[
    str | None,
    typer.Option(
        "--labels", metavar="N|CSV", help="Learn from so many labels, or those of a CSV file; or measure with these."
    ),
]
Shots = Annotated[
    int | None, typer.Option("--shots", metavar="K", help="Learn from K labelled images of each class, drawn by seed.")
]
Device = Annotated[str, typer.Option("--device", metavar="NAME", help="auto, cpu, cuda or mps.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output, and nothing else.")]
