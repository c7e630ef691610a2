"""The sections that show pictures and curves; one that does not apply is None."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from apercu import registry
from apercu.api import Model
from apercu.bottlenecks.gaussian import Gaussian
from apercu.explain.coordinates import plane
from apercu.maps import maps, neighbour_agreement
from apercu.pages.pictures import Film, Picture, Shown, data_uri, sheet, shown
from apercu.pages.words import listed, many, percent
from apercu.report.look import Look, reconstructions
from apercu.report.plots import Chart, chart, short
from apercu.report.recognition import Recognition
from apercu.tracking import Row, read_history

TERMS = {
    "pixels": "Redrawing the pixels",
    "features": "Redrawing the features",
    "mark": "Marking what was damaged",
    "visible": "Redrawing what was visible",
    "kl": "Information in the code",
    "label": "Naming the class",
    "consistency": "Agreeing with itself",
    "contrast": "Telling images apart",
    "taught": "Answering as taught",
    "contraction": "Sensitivity of the code",
    "commitment": "Distance from the codebook",
    "codebook": "Distance of the codebook",
    "rate": "Writing the code",
}
IN_NATS = ("pixels", "features", "visible", "kl", "label", "consistency", "contrast", "taught", "rate")
SHARES = {"val_accuracy": "Accuracy on validation images", "codebook_use": "Codebook in use"}
COUNTS = {"active_units": ("Active dimensions", "units"), "perplexity": ("Perplexity of the codebook", "")}

SIDE = 128
SHEET = 96
SAMPLES, COLUMNS = 40, 10
MANIFOLD = 15
SHEET_BYTES = 1_400_000

# Petroff (2021), "Accessible color sequences for data visualization": ten that colour-blind readers can tell apart.
PALETTE = ["#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6", "#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd"]


def curves(model: Model) -> list[Chart]:
    """One chart for each term and measure that the history of the training has at least twice."""
    history = read_history(model.folder) if model.folder is not None else []
    history = history or [row for row in [model.recipe.metrics.get("validation")] if row]
    names = list(dict.fromkeys(name for row in history for name in row))
    terms = [name.removeprefix("train_") for name in names if name.startswith("train_")]
    charts = []
    for term in terms:
        lines = {"training": _column(history, f"train_{term}"), "validation": _column(history, f"val_{term}")}
        # Without labels a validation prices every label at nothing, which is no measurement.
        lines = {name: line for name, line in lines.items() if len(line) > 1 and any(y for _, y in line)}
        if lines:
            charts.append(chart(TERMS.get(term, term), "nats" if term in IN_NATS else "", lines, "epoch"))
    for name, title in SHARES.items():
        line = [(x, 100 * y) for x, y in _column(history, name)]
        if len(line) > 1:
            charts.append(chart(title, "%", {"validation": line}, "epoch", top=100))
    for name, (title, whole) in COUNTS.items():
        line = _column(history, name)
        if len(line) > 1:
            most = max((row.get(whole, 0.0) for row in history), default=0.0)
            charts.append(chart(title, f"of {short(most)}" if most else "", {"validation": line}, "epoch", 0, most))
    return charts


def _column(history: list[Row], name: str) -> list[tuple[float, float]]:
    return [(row["epoch"], row[name]) for row in history if name in row and "epoch" in row]


@dataclass(frozen=True)
class Pair:
    """An image, its reconstruction and their difference."""

    original: Shown
    decoded: Shown
    difference: Shown
    id: str
    psnr: float
    ssim: float


@dataclass(frozen=True)
class Reconstructions:
    """The best, typical and worst; `full_scale` is the difference that is shown as white, as a share of the range."""

    groups: list[tuple[str, list[Pair]]]
    full_scale: float
    psnr: float
    ssim: float
    quartiles: tuple[float, float]


def show_reconstructions(model: Model, look: Look) -> Reconstructions | None:
    """Four of the best, of those in the middle and of the worst, by PSNR."""
    if look.redrawn is None:
        return None
    psnr, ssim = look.redrawn.psnr, look.redrawn.ssim
    order = np.argsort(-psnr, kind="stable")
    each = min(4, len(order) // 3)
    if each:
        middle = (len(order) - each) // 2
        chosen = {
            "Worst": order[::-1][:each],
            "Typical": order[middle : middle + each],
            "Best": order[:each],
        }
    else:
        chosen = {"All": order}
    index = np.concatenate(list(chosen.values()))
    found = reconstructions(model, look.images, index)
    errors = {i: np.abs(image - decoded).mean(0, keepdims=True) for i, (image, decoded) in found.items()}
    scale = max(max(float(np.quantile(error, 0.99)) for error in errors.values()), 1e-3)
    full = Film(white=min(1.0, scale))

    def pair(i: int) -> Pair:
        image, decoded = found[i]
        name = look.images.ids[i]
        return Pair(
            shown(look.film.develop(image, SIDE), f"{name}, original"),
            shown(look.film.develop(decoded, SIDE), f"{name}, reconstruction"),
            shown(full.develop(errors[i], SIDE), f"{name}, difference"),
            name,
            float(psnr[i]),
            float(ssim[i]),
        )

    groups = [(name, [pair(i) for i in members.tolist()]) for name, members in chosen.items()]
    low, high = np.quantile(psnr, [0.25, 0.75]).tolist()
    return Reconstructions(groups, full.white, float(psnr.mean()), float(ssim.mean()), (low, high))


@dataclass(frozen=True)
class Samples:
    """Images that nobody took; `manifold` is there where the code has two numbers."""

    drawn: Shown
    count: int
    manifold: Shown | None


def show_samples(model: Model, film: Film) -> Samples | None:
    """Draws from the prior, where the code has one and the model draws."""
    if model.network.backbone is not None or not isinstance(model.network.bottleneck, Gaussian):
        return None
    generate = registry.part("tasks", "generate")(model, count=SAMPLES, source="prior", seed=0)
    drawn = [_developed(film, model, image) for image in generate.draw(None)["all"]]
    alt = f"{SAMPLES} images decoded from codes drawn at random"
    picture = shown(sheet(drawn, COLUMNS, max(1, drawn[0].width // 16)), alt, drawn[0])
    return Samples(picture, SAMPLES, _manifold(model, film))


def _manifold(model: Model, film: Film) -> Shown | None:
    """Images of codes on a grid over the middle 95 % of the prior."""
    if model.network.bottleneck.dim != 2 or not model.network.fixed_size:
        return None
    tiles = [_developed(film, model, image, SHEET // 2) for image in model.decode(plane(MANIFOLD))]
    alt = f"{MANIFOLD} by {MANIFOLD} images decoded from a grid of codes"
    return shown(sheet(tiles, MANIFOLD, max(1, tiles[0].width // 16)), alt, tiles[0])


def _developed(film: Film, model: Model, image: np.ndarray, side: int = SHEET) -> Picture:
    return film.develop(image.astype(np.float32) / np.float32(model.recipe.image.maximum), side)


@dataclass(frozen=True)
class CodeMap:
    """The codes in two dimensions; `data` is what the page's program draws, `story` says it in words."""

    data: dict[str, Any]
    legend: list[tuple[str, str, int]]
    sprites: Shown
    coloured_by: str
    story: str
    marks_mistakes: bool


def code_map(look: Look, found: Recognition | None) -> CodeMap | None:
    """Where the codes of images lie, coloured by class; by the class that the model names where none is known."""
    placed = maps(look.features)
    if not placed:
        return None
    images = look.images
    labels, classes, coloured_by = images.labels, images.classes, "class"
    answers = {} if found is None else {name: i for i, name in enumerate(found.images.ids)}
    rows = [answers.get(name, -1) for name in images.ids]
    predicted = ["" if found is None or row < 0 else found.classes[found.predicted[row]] for row in rows]
    wrong = [bool(row >= 0 and found and 0 <= found.truth[row] != found.predicted[row]) for row in rows]
    if 3 * sum(wrong) > len(wrong):  # rings are for the exceptions
        wrong = [False] * len(wrong)
    if not (labels >= 0).any() and found is not None:
        classes, coloured_by = found.classes, "the class that the model names"
        labels = np.array([found.predicted[row] if row >= 0 else -1 for row in rows], np.int64)
    present = [k for k in range(len(classes)) if (labels == k).any()]
    number = {k: n for n, k in enumerate(present)}
    legend = [(classes[k], PALETTE[n % len(PALETTE)], int((labels == k).sum())) for n, k in enumerate(present)]
    columns = int(np.ceil(len(images) ** 0.5))
    tile = (max(sprite.width for sprite in look.sprites), max(sprite.height for sprite in look.sprites))
    data = {
        "maps": {name: np.rint(1000 * points).astype(int).ravel().tolist() for name, points in placed.items()},
        "group": [number.get(int(label), -1) for label in labels],
        "names": [name for name, _, _ in legend],
        "colours": PALETTE,
        "ids": list(images.ids),
        "truth": [images.classes[k] if k >= 0 else "" for k in images.labels.tolist()],
        "predicted": predicted,
        "wrong": [int(w) for w in wrong],
        "tile": tile,
        "columns": columns,
    }
    alt = f"thumbnails of {many(len(images), 'image')}"
    sprites = Shown(data_uri(sheet(look.sprites, columns), SHEET_BYTES), alt, *tile)
    return CodeMap(data, legend, sprites, coloured_by, _story(look, images.labels, images.classes), any(wrong))


def _story(look: Look, labels: np.ndarray, classes: tuple[str, ...]) -> str:
    """How well neighbours in the code share their class, for those who do not see the map."""
    known = np.flatnonzero(labels >= 0)
    if len(known) < 20 or len(np.unique(labels[known])) < 2:
        return ""
    share = neighbour_agreement(look.features[known], labels[known])
    counts = np.bincount(labels[known], minlength=len(classes)) / len(known)
    text = (
        f"Of the ten nearest neighbours of an image in the code itself, {percent(float(share.mean()))} share its "
        f"class; by chance it would be {percent(float((counts**2).sum()))}."
    )
    means = {classes[k]: float(share[labels[known] == k].mean()) for k in np.unique(labels[known]).tolist()}
    ordered = sorted(means, key=lambda name: means[name])
    worst = [f"{name} ({percent(means[name])})" for name in ordered[: min(3, len(ordered) - 1)]]
    return f"{text} Most mixed with others: {listed(worst)}; least: {ordered[-1]} ({percent(means[ordered[-1]])})."
