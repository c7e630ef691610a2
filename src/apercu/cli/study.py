"""Commands that train many models for one answer: `curve` and `tune`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from apercu.cli.follow import counting, glance
from apercu.cli.options import Channels, Device, Fit, Images, Json, Settings, Size
from apercu.cli.output import Stopped, brief, note, show, table
from apercu.errors import ApercuError
from apercu.settings import parse_settings

if TYPE_CHECKING:
    from apercu.cli.options import FitName
    from apercu.data.open import Images as Opened
    from apercu.tune import Choice

Out = Annotated[Path, typer.Option("-o", "--out", metavar="OUT", help="The folder that figures and files are kept in.")]
Epochs = Annotated[int | None, typer.Option("--epochs", metavar="N", help="Passes over the images in each training.")]
PerRun = Annotated[
    float | None, typer.Option("--minutes-per-run", metavar="M", help="As many passes as fit, instead of --epochs.")
]
Batch = Annotated[int, typer.Option("--batch", metavar="N", help="Images in one step.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Forget what OUT holds and start again.")]
GO_ON = "stopped; the same command goes on"


def curve(
    images: Images,
    out: Out,
    labels: Annotated[
        str | None,
        typer.Option("--labels", metavar="N,N,…", help="Labels per class; 1,2,5,10,20,50,100 as far as they go."),
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", metavar="N", help="Draws of labels and of networks.")] = 3,
    minutes: Annotated[
        float | None, typer.Option("--minutes", metavar="M", help="Stop after this time; the same command goes on.")
    ] = None,
    methods: Annotated[
        str | None,
        typer.Option("--methods", metavar="A,B,…", help="Some of pixels,pca,cnn,probe,finetune,joint; else all."),
    ] = None,
    setting: Settings = None,
    epochs: Epochs = None,
    minutes_per_run: PerRun = None,
    batch: Batch = 128,
    model: Annotated[
        Path | None,
        typer.Option("--model", metavar="MODEL", help="Of CODES: where their model is, if not where it was."),
    ] = None,
    size: Size = None,
    fit: Fit = None,
    channels: Channels = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Measure accuracy against the number of labels: did the unlabelled images help, is it worth labelling more?

    On the test images, for several draws of labels, beside methods that use no autoencoder. Settings are those of the
    preset vae_cnn. Every figure is kept as soon as it is there, and the same command goes on where it stopped. Of CODES
    in place of IMAGES a probe is measured, and what needs pixels is left out.

    Example: apercu curve photos -o curve --labels 5,20,100 --minutes 60
    """
    from apercu.api import model_of
    from apercu.codes.store import Codes
    from apercu.codes.table import holds_codes
    from apercu.curve import METHODS, Curve, conclude
    from apercu.presets import find
    from apercu.study import Budget, duration
    from apercu.training import Training

    budget = Budget(minutes)
    usual, training = Training(device=device), Training(epochs, minutes_per_run, batch, device=device)
    coded = holds_codes(images)
    if model is not None and not coded:
        raise ApercuError("--model names the model that made CODES, and these are images; leave it out")
    study = Curve(
        _open(images, size, fit, channels),
        out,
        settings=parse_settings(setting or [], find("vae_cnn")),
        training=None if coded and training == usual else training,
        made=model_of(Codes(images), model, device) if coded else None,
        overwrite=overwrite,
        drive=glance,
    )
    plan = study.plan(_numbers(labels), seeds, methods.split(",") if methods else None)
    note(f"{len(plan)} figures, {len(study.missing(plan))} of them to measure")
    try:
        for figure in study.run(plan, budget):
            which = f"{METHODS[figure.method].name}, {figure.per_class} per class, seed {figure.seed}"
            left = len(study.missing(plan))
            note(f"{which}: {figure.accuracy:.1%} in {duration(figure.seconds)}; {left} to go")
    except KeyboardInterrupt:
        raise Stopped(GO_ON) from None
    for method, seconds in study.too_long.items():
        note(
            f"{METHODS[method].name}: left out, since a training takes about {duration(seconds)}, longer than was left"
        )
    answer = conclude(study, plan)
    show(answer, _curve_in_words(answer, {name: method.name for name, method in METHODS.items()}), as_json)


def tune(
    images: Images,
    out: Out,
    minutes: Annotated[float, typer.Option("--minutes", metavar="M", help="How long to search.")] = 30.0,
    trials: Annotated[
        int | None, typer.Option("--trials", metavar="N", help="Stop after so many, those of earlier calls included.")
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option("--preset", metavar="A,B,…", help="What to choose from; vae_cnn,vae, or vae without labels."),
    ] = None,
    setting: Settings = None,
    labels: Annotated[
        str | None, typer.Option("--labels", metavar="N|CSV", help="As for apercu fit; a third of them judges.")
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option("--learning-rate", metavar="X", help="Do not search it: take this one.")
    ] = None,
    epochs: Epochs = None,
    minutes_per_run: PerRun = None,
    batch: Batch = 128,
    size: Size = None,
    fit: Fit = None,
    channels: Channels = None,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="What everything random comes from.")] = 0,
    device: Device = "auto",
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Search preset, latent size, weights of the terms, width and learning rate, judged by validation images alone.

    Settings given with -s are kept as they are. The defaults are tried first; hopeless trials are given up early; the
    same command goes on where it stopped. The answer is the apercu fit command with the best settings.

    Example: apercu tune photos -o tuned --labels 100 --minutes 30
    """
    from apercu.presets import find
    from apercu.study import Budget, TooLong, duration
    from apercu.training import Training
    from apercu.tune import Tuning, conclude, make_judge

    budget = Budget(minutes)
    rate = Training.learning_rate if learning_rate is None else learning_rate
    training = Training(epochs, minutes_per_run, batch, rate, seed=seed, device=device)
    presets = preset.split(",") if preset else []
    known = [find(name) for name in presets or ["vae_cnn"]]
    judge = make_judge(_open(images, size, fit, channels), labels, seed)
    note(f"judged by {judge.about}")
    tuning = Tuning(
        judge,
        out,
        minutes=minutes,
        presets=presets,
        pinned=parse_settings(setting or [], known[0]),
        learning_rate=learning_rate,
        training=training,
        overwrite=overwrite,
        drive=glance,
    )
    try:
        for tried in tuning.run(budget, trials):
            value = "" if tried.value is None else f" {tried.value:.4g}"
            note(f"trial {tried.number}: {tried.state}{value} in {duration(tried.seconds)}: {_chosen(tried.choice)}")
    except TooLong as reason:
        note(f"stopped: the next training takes about {duration(reason.seconds)}, more than was left")
    except KeyboardInterrupt:
        raise Stopped(GO_ON) from None
    given = {"--labels": labels, "--size": size, "--fit": fit, "--channels": channels}
    options = [word for name, value in given.items() if value is not None for word in (name, str(value))]
    answer = conclude(tuning, [images, "-o", "model", *options])
    words = f"{answer['verdict']} Judged by {answer['judged_by']}.\n\n  {answer['command']}\n\n"
    show(answer, f"{words}kept in {', '.join(answer['files'])}; the same command goes on", as_json)


def _chosen(choice: Choice) -> str:
    settings = {**choice.settings, "learning_rate": choice.learning_rate}
    return f"{choice.preset}({', '.join(f'{name}={brief(value)}' for name, value in settings.items())})"


def _open(images: str, size: str | None, fit: FitName | None, channels: int | None) -> Opened:
    from apercu.data.open import open_images

    note(f"opening {images}")
    with counting("opening") as progress:
        opened = open_images(images, size=size, fit=fit or "error", channels=channels, progress=progress)
    for text in opened.notes:
        note(f"  {text}")
    if opened.problems:
        note(f"  {len(opened.problems)} could not be read; see: apercu check {images}")
    return opened


def _numbers(text: str | None) -> list[int] | None:
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise ApercuError(f"labels must be whole numbers with commas between them, as 1,5,20, not {text!r}") from error


def _curve_in_words(answer: dict[str, Any], names: dict[str, str]) -> str:
    """A row for each method, a column for each number of labels; then the verdict."""
    from apercu.study import many

    cells = {(row["method"], row["labels_per_class"]): row for row in answer["table"]}
    counts = sorted({count for _, count in cells})
    rows: list[list[str]] = [["labels per class", *map(str, counts)]]
    for method, name in names.items():
        if any(method == there for there, _ in cells):
            rows.append([name, *(_cell(cells.get((method, count))) for count in counts)])
    seeds = many(max(row["seeds"] for row in answer["table"]), "seed")
    lines = [f"accuracy in % on {answer['test_images']:,} test images of {answer['images']}, over {seeds}:"]
    lines += [table(rows), *answer["verdict"]]
    if answer["missing"]:
        lines.append(f"{many(answer['missing'], 'figure')} still to measure; the same command goes on.")
    return "\n".join([*lines, f"kept in {', '.join(answer['files'])}"])


def _cell(row: dict[str, Any] | None) -> str:
    if row is None:
        return "–"
    accuracy, half = row["accuracy"], row["half_width"]
    return f"{100 * accuracy:.1f}" + ("" if half is None else f" ± {100 * half:.1f}")
