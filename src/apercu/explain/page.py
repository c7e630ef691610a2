"""An HTML page for each image that is explained, and an index; each page holds everything that it shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from apercu import metrics
from apercu.api import Model
from apercu.bottlenecks.gaussian import Gaussian
from apercu.checkpoint import write_atomically
from apercu.data.images import ImageSet
from apercu.explain.attribution import METHODS
from apercu.explain.coordinates import Coordinate, deciding
from apercu.explain.decision import Decision
from apercu.explain.explained import Explained
from apercu.explain.references import References
from apercu.pages import environment, inline
from apercu.pages.names import file_names
from apercu.pages.pictures import Film, Shown, sheet, shown
from apercu.sheet import save_image

SIDE, STRIP = 192, 72
COORDINATES = 3
REACH = 2.5
"""How far a coordinate is moved to either side, in standard deviations."""

# Readers who cannot tell red from green can tell these two apart, on any grey.
MORE, LESS = np.array([1.0, 0.55, 0.0]), np.array([0.1, 0.45, 1.0])

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Shelf:
    """What explanations are made with: the decision, known images where there are some, and how many to show."""

    decision: Decision
    references: References | None
    count: int


@dataclass(frozen=True)
class Known:
    """A known image beside the one that is explained."""

    picture: Shown
    id: str
    label: str
    distance: float | None


@dataclass(frozen=True)
class Attribution:
    """One attribution, laid over the image, and its areas beside those of a random order."""

    name: str
    picture: Shown
    deletion: float
    insertion: float


@dataclass(frozen=True)
class Moving:
    """A coordinate that is moved: a strip of pictures, and what becomes of the decision."""

    number: int
    nats: float
    picture: Shown
    probabilities: list[float]


def write_pages(out: Path, model: Model, images: ImageSet, parts: Sequence[Explained], shelf: Shelf) -> None:
    """Write `index.html`, a page for each of the images, and what was imagined of it as `NAME-imagined.png`."""
    names = file_names(images.ids, taken=("index",))
    white = model.recipe.image.maximum
    template, entries = environment().get_template("explain.html"), {}
    film = Film.for_images([part.batch.x[0].cpu().numpy() for part in parts], white)
    for part in parts:
        coordinates = deciding(shelf.decision, part, _reach(model, shelf), COORDINATES)
        stored = model.stored(part.imagined.pixels.cpu().numpy())
        for i, row in enumerate(part.rows(shelf.decision.classes)):
            name = names[row["id"]]
            shows = _shows(part, i, film, shelf, coordinates[i])
            page = template.render(style=inline("report.css"), answer=part.answers[i], row=row, **shows)
            write_atomically(_made(out) / f"{name}.html", page.encode())
            save_image(stored[i], out / f"{name}-imagined", white)
            entries[row["id"]] = {
                "file": f"{name}.html",
                "row": row,
                "images": [shows[k] for k in ("original", "imagined", "change")],
            }
    index = environment().get_template("explain_index.html")
    listed = [entries[image_id] for image_id in images.ids]
    write_atomically(_made(out) / "index.html", index.render(style=inline("report.css"), entries=listed).encode())


def _shows(part: Explained, i: int, film: Film, shelf: Shelf, coordinates: list[Coordinate]) -> dict[str, Any]:
    """Everything that the page of image `i` shows."""
    found = part.imagined
    image, redrawn, imagined = (
        values[i].float().cpu().numpy() for values in (part.batch.x, found.redrawn, found.pixels)
    )
    name, label, becomes = part.answers[i]["id"], part.answers[i]["label"], part.after[i]
    aimed = shelf.decision.classes[int(found.aimed[i])]
    change = (imagined - redrawn).mean(0)
    maps = {method: values[i].float().cpu().numpy() for method, values in part.maps.items()}
    known = [] if shelf.references is None else _neighbours(shelf.references, part, i, film, shelf.count)
    return {
        "original": shown(film.develop(image, SIDE), f"{name}, as it is"),
        "redrawn": shown(film.develop(redrawn, SIDE), f"{name}, drawn from its code"),
        "imagined": shown(film.develop(imagined, SIDE), f"{name}, as {becomes}"),
        "change": shown(Film().develop(marked(redrawn, change, film), SIDE), "brighter orange, darker blue"),
        "strongest": strongest(change),
        "psnr": float(metrics.psnr(part.batch.x[i : i + 1], found.redrawn[i : i + 1])),
        "units": _units(part, shelf),
        "neighbours": known,
        "prototypes": [] if shelf.references is None else _prototypes(shelf.references, (label, aimed), film),
        "attributions": [
            Attribution(
                METHODS[method],
                shown(Film().develop(marked(image, values, film), SIDE), f"{METHODS[method]} for {label}"),
                *(float(area[i]) for area in part.areas[method]),
            )
            for method, values in maps.items()
        ],
        "random": [float(area[i]) for area in part.areas["random"]],
        "coordinates": [_moving(coordinate, film) for coordinate in coordinates],
        "notes": film.notes(len(image)),
    }


def _units(part: Explained, shelf: Shelf) -> str:
    """Of what a distance of 1 is the standard deviation."""
    if part.imagined.code.scale is not None:
        return "the posterior"
    return "the code" if shelf.references is None else "the codes of known images"


def strongest(values: Floats) -> float:
    """The value that a signed map shows in full colour: all but the largest half per cent lie below."""
    return max(float(np.quantile(np.abs(values), 0.995)), 1e-6)


def marked(image: Floats, values: Floats, film: Film) -> Floats:
    """(C, H, W) in grey with a signed map (H, W) laid over it, orange above 0, blue below: (3, H, W) in [0, 1]."""
    share = np.clip(values / strongest(values), -1, 1)
    ground = 0.15 + 0.6 * np.clip(image.mean(0) / film.white, 0, 1)
    colour = np.where(share[None] > 0, MORE[:, None, None], LESS[:, None, None])
    strength = np.abs(share)[None]
    pixels: Floats = ((1 - strength) * ground[None] + strength * colour).astype(np.float32)
    return pixels


def _neighbours(references: References, part: Explained, i: int, film: Film, count: int) -> list[Known]:
    code = part.imagined.code.mean[i].float().cpu().numpy()
    if not references.fits(code.shape):
        return []
    near = references.neighbours(code, count, part.images.hashes[i])
    return [_known(references, row, film, distance) for row, distance in near]


def _prototypes(references: References, labels: Sequence[str], film: Film) -> list[Known]:
    rows = [references.prototype(label) for label in dict.fromkeys(labels)]
    return [_known(references, row, film) for row in rows if row is not None]


def _known(references: References, row: int, film: Film, distance: float | None = None) -> Known:
    images = references.images
    pixels = images.read([row])[0] / np.float32(images.spec.maximum)
    label = images.classes[images.labels[row]]
    return Known(shown(film.develop(pixels, SIDE), f"{images.ids[row]}, {label}"), images.ids[row], label, distance)


def _moving(coordinate: Coordinate, film: Film) -> Moving:
    tiles = [film.develop(image, STRIP) for image in coordinate.images]
    alt = f"{len(tiles)} images while coordinate {coordinate.number} grows"
    strip = shown(sheet(tiles, len(tiles), max(1, tiles[0].width // 16)), alt, tiles[0])
    return Moving(coordinate.number, coordinate.nats, strip, coordinate.probabilities)


def _reach(model: Model, shelf: Shelf) -> torch.Tensor:
    """(D,): standard deviations of the prior or, where there is none, of the codes of known images."""
    dim = model.network.bottleneck.dim
    if isinstance(model.network.bottleneck, Gaussian) or shelf.references is None:
        return torch.full((dim,), REACH, device=model.device)
    return REACH * torch.from_numpy(shelf.references.spread[0]).to(model.device)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
