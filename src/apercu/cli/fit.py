"""`apercu fit`: open, train, and keep the model."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from apercu import registry
from apercu.cli.describe import recipe_in_words
from apercu.cli.follow import counting, follow
from apercu.cli.learn import View
from apercu.cli.options import Channels, Device, Fit, Images, Json, Settings, Size
from apercu.cli.output import SHOWN, Stopped, in_words, note, plain, show
from apercu.errors import ApercuError
from apercu.settings import parse_settings

if TYPE_CHECKING:
    from apercu.api import Model
    from apercu.data.open import Images as Opened
    from apercu.fitting import Job


def fit(
    images: Images,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="MODEL", help="The folder that the model is written to.")],
    preset: Annotated[
        str | None,
        typer.Option(
            "--preset", metavar="NAME", help="See apercu presets; vae_cnn, or vae where there are no classes."
        ),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(
            "--task", metavar="NAME", help="What it is for, instead of --preset: anomaly, compress, restore, segment."
        ),
    ] = None,
    normal: Annotated[
        str | None,
        typer.Option(
            "--normal", metavar="CLASS", help="Learn from this class alone; for --task anomaly good, normal or ok."
        ),
    ] = None,
    setting: Settings = None,
    labels: Annotated[
        str | None,
        typer.Option("--labels", metavar="N|CSV", help="Keep so many labels, evenly drawn, or those of a CSV file."),
    ] = None,
    start: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="MODEL",
            help="Start from this trained model: its weights, and its preset and settings where none are given.",
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option("--epochs", metavar="N", help="Passes over the images; 30, or more where they are few."),
    ] = None,
    minutes: Annotated[
        float | None, typer.Option("--minutes", metavar="M", help="As many passes as fit, instead of --epochs.")
    ] = None,
    batch: Annotated[int, typer.Option("--batch", metavar="N", help="Images in one step.")] = 128,
    accumulate: Annotated[
        int, typer.Option("--accumulate", metavar="N", help="Compute a step in so many parts, to need less memory.")
    ] = 1,
    learning_rate: Annotated[float, typer.Option("--learning-rate", metavar="X", help="Its peak.")] = 2e-3,
    patience: Annotated[
        int, typer.Option("--patience", metavar="N", help="Stop after N validations without improvement; 0: never.")
    ] = 0,
    balance: Annotated[
        bool, typer.Option("--balance", help="Show every class equally often, where some classes are rare.")
    ] = False,
    crop: Annotated[
        int | None,
        typer.Option(
            "--crop",
            metavar="PIXELS",
            help="Learn from parts of this side, drawn anew in every pass; for large images.",
        ),
    ] = None,
    size: Size = None,
    fit: Fit = None,
    channels: Channels = None,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first file that cannot be read.")] = False,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="What everything random comes from.")] = 0,
    device: Device = "auto",
    precision: Annotated[str, typer.Option("--precision", metavar="NAME", help="auto, 32 or bf16.")] = "auto",
    compile: Annotated[
        bool, typer.Option("--compile", help="Compile the model: slower to start, then faster.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run that was stopped in MODEL, with its own options.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the model that MODEL holds.")] = False,
    as_json: Json = False,
) -> None:
    """Learn a model from images, most of which may be unlabelled; sub-folders are classes.

    Ctrl-C stops it and --resume goes on, as if it had never stopped.

    Example: apercu fit photos -o model --labels 100 -s dim=64 --minutes 10
    """
    note(f"opening {images}")
    from apercu.fitting import prepare
    from apercu.training import Training

    training = Training(
        epochs=epochs,
        minutes=minutes,
        batch=batch,
        accumulate=accumulate,
        learning_rate=learning_rate,
        patience=patience,
        balance=balance,
        crop=crop,
        seed=seed,
        device=device,
        precision=precision,
        compile=compile,
    )
    preset, usual = _for_task(task, preset, start)
    with counting("looking at images") as progress:
        job = prepare(
            images,
            preset=preset,
            labels=labels,
            start=start,
            out=out,
            settings={} if resume else usual | _settings(preset, setting or [], start),
            training=training,
            size=size,
            fit=fit or "error",
            channels=channels,
            strict=strict,
            normal="" if normal is None and task == "anomaly" else normal,
            resume=resume,
            overwrite=overwrite,
            progress=progress,
        )
    if preset is None and start is None and job.recipe.preset == "vae":
        note("these images have no classes to learn, so the preset is vae and not vae_cnn")
    _tell(job)
    try:
        follow(job.run())
        model = job.finish()
    except KeyboardInterrupt:
        again = shlex.join(["apercu", "fit", images, "-o", str(out), "--resume"])
        raise Stopped(f"stopped; go on with: {again}") from None
    if task is None:
        _learn_to_classify(model, job.data)
    _learn_to_detect(model, images)
    words = recipe_in_words(model.recipe)
    show({"model": str(out), **asdict(model.recipe)}, f"{words}\nthe model is in {out}", as_json)


def _for_task(task: str | None, preset: str | None, start: Path | None) -> tuple[str | None, dict[str, Any]]:
    """The preset that a task asks for and its settings; those that were given where there is no task."""
    from apercu.presets import for_task

    if task is None:
        return preset, {}
    if preset is not None or start is not None:
        raise ApercuError(f"--task chooses the preset, and so does {'--preset' if preset else '--from'}; give one")
    return for_task(task)


def _settings(preset: str | None, pairs: list[str], start: Path | None) -> dict[str, Any]:
    from apercu.presets import find
    from apercu.store import load_recipe

    if preset is None:
        preset = "vae_cnn" if start is None else load_recipe(start).preset
    return parse_settings(pairs, find(preset))


def _labelled_classes(images: Opened) -> set[int]:
    return set(images.train.labels.tolist()) - {-1}


def _tell(job: Job) -> None:
    """Say what was opened: counts, decisions, and which files were skipped."""
    from apercu.augment import choose_domain

    about = job.recipe.data
    labelled = f" ({about['labelled']} labelled)" if job.recipe.classes else ""
    note(f"{about['train']} images to train{labelled}, {about['val']} to validate, {about['test']} to test")
    for text in about["notes"]:
        note(f"  {text}")
    if job.recipe.settings.get("domain") == "auto" and job.network.views is not None:
        domain, why = choose_domain(job.recipe.image)
        note(f"  varied as {domain} are: {why}; choose with -s domain=…, look with apercu augment")
    skipped = about["skipped"]
    if skipped:
        note(f"  {len(skipped)} skipped:")
    for text in skipped[:SHOWN]:
        note(f"    {text}")
    if len(skipped) > SHOWN:
        note(f"    … and {len(skipped) - SHOWN} more, all of them in the recipe")


def _learn_to_classify(model: Model, images: Opened) -> None:
    """Let every model that saw labels classify: with a probe where it has no joint head; and say how well."""
    from apercu.store import save_recipe

    if len(_labelled_classes(images)) < 2 or model.folder is None:
        return
    classify = registry.part("tasks", "classify")(model)
    if "label" in model.network.heads:
        classify.calibrate(images.train, images.val)
    else:
        note("fitting a classifier on the code")
        classify.fit(images.train, images.val)
    if (images.val.labels >= 0).any():
        model.recipe.metrics["classify"] = plain(classify.evaluate(images.val))
        save_recipe(model.recipe, model.folder)


def _learn_to_detect(model: Model, images: str) -> None:
    """Let a model of normal images find what is odd; known defects among the images choose how."""
    normal = model.recipe.data["request"].get("normal")
    if normal is None or model.folder is None:
        return
    note("learning what is normal")
    opened = View(None, None, None).whole(model, images)
    detect = registry.part("tasks", "anomaly")(model, normal=normal)
    note(in_words(detect.fit(model.images(opened, "train"), model.images(opened, "val"))))
