"""What was learnt, in words: a headline, a paragraph, the figures, and the comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from apercu.api import Model
from apercu.pages.words import FIXED, interval, many, number, percent, wilson
from apercu.report.health import CodeSize
from apercu.report.look import Look
from apercu.report.recognition import Recognition

SEEN = {"test": "unseen image", "val": "validation image", "train": "training image"}
CAUTION = {
    "test": "",
    "val": "There are no test images, so these are validation images. They also chose the best epoch: new images may "
    "fare a little worse.",
    "train": "No images were held back, so these are images that it was trained on: they say little about new ones.",
}

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Figure:
    """One large number with what it means."""

    value: str
    name: str
    detail: str


@dataclass(frozen=True)
class Compared:
    """One row of the comparison; `width` is the bar in percent, `low` and `high` the ends of its spread."""

    name: str
    accuracy: str
    width: float
    low: float
    high: float
    note: str
    ours: bool


@dataclass(frozen=True)
class Summary:
    """The head of the page."""

    headline: str
    learns_classes: bool
    lead: list[str]
    cautions: list[str]
    figures: list[Figure]
    comparison: list[Compared]
    notes: list[str]
    skipped: list[str]


def summarise(
    model: Model, split: str, look: Look, found: Recognition | None, code: CodeSize, comparison: Rows = ()
) -> Summary:
    """Say it with the numbers that were measured, and no others."""
    data = model.recipe.data
    learnt, labelled = int(data.get("train", 0)), int(data.get("labelled", 0))
    images = many(learnt, "image")
    most = "" if model.recipe.image.uniform else "at most "
    headline = f"{images}, each in {most}{code.figure}{FIXED}{code.unit}"
    begin = f"The preset {model.recipe.preset} learnt from {images}"
    if labelled:
        each = "all" if labelled == learnt else number(labelled)
        begin += f", {each} of them labelled as one of {many(len(model.recipe.classes), 'class', 'classes')}"
    lead = [f"{begin}. {code.sentence}"]
    figures = []
    if found is not None and found.accuracy is not None:
        asked = many(len(found.known), SEEN[split])
        headline = f"{percent(found.accuracy)} of {asked} recognised"
        headline += f", after {many(labelled, 'label')}" if labelled else ""
        lead.append(_recognised(model, found, asked))
        around = f"95{FIXED}% interval {interval(found.right, len(found.known))}"
        figures.append(Figure(percent(found.accuracy), "recognised", around))
    lead.append(_redrawn(look, split))
    if look.redrawn is not None:
        psnr, ssim = look.redrawn.psnr.mean(), look.redrawn.ssim.mean()
        figures.append(Figure(f"{psnr:.1f}{FIXED}dB", "PSNR, redrawn", f"SSIM {ssim:.2f}"))
    figures += [
        Figure(code.figure, f"{code.unit} in the code", code.beside),
        Figure(number(learnt), "images learnt from", f"{number(labelled)} with a label"),
    ]
    notes = [str(note) for note in data.get("notes", [])]
    skipped = [str(problem) for problem in data.get("skipped", [])]
    learns_classes = "label" in model.network.heads
    return Summary(
        headline, learns_classes, lead, _cautions(split, look, found), figures, compare(comparison), notes, skipped
    )


def _recognised(model: Model, found: Recognition, asked: str) -> str:
    probe = model.recipe.tasks.get("classify", {})
    how = f" (by {probe['method']}, fitted to {many(int(probe['labels']), 'label')})" if "labels" in probe else ""
    return (
        f"It names the right class for {number(found.right)} of {asked}{how}. With 95{FIXED}% confidence its rate lies "
        f"within {interval(found.right, len(found.known))}; always naming the most frequent class would give "
        f"{percent(found.guess)}."
    )


def _cautions(split: str, look: Look, found: Recognition | None) -> list[str]:
    """What a reader must know before believing the figures."""
    cautions = [CAUTION[split]] if CAUTION[split] else []
    if found is not None and found.accuracy is not None and wilson(found.right, len(found.known))[0] <= found.guess:
        cautions.append(
            "These images do not show that it recognises anything: always naming the most frequent class may do as "
            "well. Train longer, or with more labels."
        )
    drawn = look.redrawn
    if drawn is not None and drawn.baseline is not None and float(drawn.psnr.mean()) <= drawn.baseline:
        cautions.append("It redraws images no better than their average does: train longer, or with a larger code.")
    return cautions


def _redrawn(look: Look, split: str) -> str:
    drawn = look.redrawn
    if drawn is None:
        return "It decodes the features of its encoder and no pixels, so no image is redrawn or sampled here."
    seen = f"{SEEN[split]} comes" if look.total == 1 else f"{SEEN[split]}s come"
    text = f"Redrawn from the code, {look.counted} {seen} back with {drawn.psnr.mean():.1f}{FIXED}dB PSNR"
    if drawn.baseline is not None:
        text += f", where the average image, which needs no code, reaches {drawn.baseline:.1f}{FIXED}dB"
    return text + "."


def compare(rows: Rows) -> list[Compared]:
    """Bars from zero, so that their lengths compare as the accuracies do; the best first."""
    compared = []
    for row in sorted(rows, key=lambda row: -float(row["accuracy"])):
        accuracy, spread = float(row["accuracy"]), float(row.get("spread") or 0.0)
        said = f"{percent(accuracy)} ± {100 * spread:.1f}" if spread else percent(accuracy)
        low, high = max(0.0, accuracy - spread), min(1.0, accuracy + spread)
        compared.append(
            Compared(
                str(row["name"]),
                said,
                round(100 * accuracy, 2),
                round(100 * low, 2),
                round(100 * high, 2),
                str(row.get("note") or ""),
                bool(row.get("ours")),
            )
        )
    return compared
