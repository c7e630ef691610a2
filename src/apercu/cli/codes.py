"""`apercu encode`, `apercu index` and `apercu search`: codes that are kept in a table, and the search among them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from apercu.cli.follow import counting
from apercu.cli.options import Channels, Device, Fit, Images, Json, ModelFolder, Size
from apercu.cli.output import end, in_words, show
from apercu.errors import ApercuError

if TYPE_CHECKING:
    from apercu.codes.store import Codes
    from apercu.data.images import ImageSet

CodesFolder = Annotated[Path, typer.Argument(metavar="CODES", help="The folder that apercu encode made.")]
COLUMNS = 10


def encode(
    model: ModelFolder,
    images: Images,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="CODES", help="The folder that the codes are kept in.")],
    prune: Annotated[bool, typer.Option("--prune", help="Drop the codes of images that are gone.")] = False,
    size: Size = None,
    fit: Fit = None,
    channels: Channels = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Keep the codes of images in a table, which then stands in their place and can be searched.

    The same command again encodes new and changed images only, also where it was stopped in the midst. It exits with 2
    where an image could not be read.

    Example: apercu encode model photos -o codes
    """
    from apercu.api import load
    from apercu.encoding import encode as run

    opened = load(model, device)
    with counting("encoding") as progress:
        done = run(opened, images, out, size=size, fit=fit, channels=channels, prune=prune, progress=progress)
    end(done, as_json)


def index(codes: CodesFolder, as_json: Json = False) -> None:
    """Make the index anew by which many codes are searched fast; encode makes one above 50,000 by itself.

    Example: apercu index codes
    """
    from apercu.codes.store import Codes

    opened = Codes(codes)
    done = {"parts": opened.index(), "n": len(opened)}
    show(done, in_words(done), as_json)


def search(
    codes: CodesFolder,
    query: Annotated[str | None, typer.Argument(metavar="QUERY", help="An image, or a folder of them.")] = None,
    k: Annotated[int, typer.Option("-k", metavar="K", help="How many images to find.")] = 10,
    image_id: Annotated[
        str | None, typer.Option("--id", metavar="ID", help="Search by an image of the table instead.")
    ] = None,
    label: Annotated[
        str | None, typer.Option("--label", metavar="NAME", help="Only among images of this label.")
    ] = None,
    duplicates: Annotated[
        bool, typer.Option("--duplicates", help="Find groups of images that are almost the same instead.")
    ] = False,
    threshold: Annotated[
        float | None,
        typer.Option(
            "--threshold",
            metavar="S",
            help="The similarity from which on they are, 1 is equal; else what chance rules out.",
        ),
    ] = None,
    exact: Annotated[bool, typer.Option("--exact", help="Compare with every image, whatever index there is.")] = False,
    model: Annotated[
        Path | None, typer.Option("--model", metavar="MODEL", help="Where the model is, if not where it was.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="FILE.png", help="A sheet of what was found.")
    ] = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Find the images most like a given one, by their codes; or groups of near duplicates.

    Example: apercu search codes scratch.jpg -k 20 -o alike.png
    """
    if k < 1:
        raise ApercuError(f"-k is how many images to find, at least 1, and not {k}")
    if sum([query is not None, image_id is not None, duplicates]) != 1:
        raise ApercuError("say what to search for: an image, --id ID for one of the table, or --duplicates")
    from apercu.codes.store import Codes

    opened = Codes(codes)
    if duplicates:
        threshold = opened.alike if threshold is None else threshold
        groups = opened.groups(threshold)
        if out is not None:
            names = [(name, f"{name}\ngroup {number}") for number, group in enumerate(groups, 1) for name in group]
            pictures = _pictures(opened, [name for name, _ in names])
            _sheet(list(zip(pictures, [caption for _, caption in names], strict=False)), COLUMNS, out)
        done: dict[str, Any] = {"n": len(opened), "threshold": threshold, "groups": groups}
        about = f"{len(groups)} groups among {len(opened)} images, by a similarity of at least {threshold:.6f}"
        words = "\n".join([about, *map(", ".join, groups[:COLUMNS])])
        show(done, words, as_json)
        return
    asked, vectors, pictures = _query(opened, query, image_id, model, device, out is not None)
    # An image of the table is nearest to itself, which is no news.
    found = opened.search(vectors, k + (image_id is not None), label=label, exact=exact or None)
    found = [[hit for hit in hits if hit.id != image_id][:k] for hits in found]
    if out is not None:
        cells = [
            cell
            for picture, name, hits in zip(pictures, asked, found, strict=False)  # a sheet has a limit
            for cell in [
                (picture, f"{name}\nasked for"),
                *zip(
                    _pictures(opened, [hit.id for hit in hits]),
                    [f"{hit.id}\nsimilarity {hit.similarity:.3f}" for hit in hits],
                    strict=False,
                ),
            ]
        ]
        _sheet(cells, 1 + max(map(len, found)), out)
    results = [
        {"query": name, "id": hit.id, "label": hit.label, "similarity": hit.similarity, "distance": hit.distance}
        for name, hits in zip(asked, found, strict=True)
        for hit in hits
    ]
    done = {"n": len(opened), "results": results}
    show(done, in_words(done), as_json)


def _query(
    codes: Codes, query: str | None, image_id: str | None, folder: Path | None, device: str, draw: bool
) -> tuple[list[str], Any, list[Any]]:
    """What is asked for: names, vectors (Q, K), and their pixels in [0, 1] if they are to be drawn."""
    if image_id is not None:
        if image_id not in codes.places:
            raise ApercuError(f"there is no image {image_id!r} in {codes.folder}; names are as in its source")
        return [image_id], codes.vectors([codes.places[image_id]]), _pictures(codes, [image_id]) if draw else []
    from apercu.api import model_of
    from apercu.data.open import open_images

    model = model_of(codes, folder, device)
    images = model.images(open_images(query, **codes.about.opening))
    return list(images.ids), model.features(images), _pixels(images) if draw else []


def _pictures(codes: Codes, names: Sequence[str]) -> list[Any]:
    """The pixels of images of the table, (C, H, W) in [0, 1], from where they came from."""
    from apercu.data.open import open_images

    return _pixels(open_images(codes).split("all").subset([codes.places[name] for name in names]))


def _pixels(images: ImageSet) -> list[Any]:
    from apercu.tasks._written import MOST

    return [images.read([i])[0] / images.spec.maximum for i in range(min(len(images), MOST))]


def _sheet(cells: Sequence[tuple[Any, str]], columns: int, path: Path) -> None:
    """Pictures with their captions."""
    from apercu.sheet import contact_sheet, save_image

    if cells:
        save_image(contact_sheet([picture for picture, _ in cells], columns, [text for _, text in cells]), path)
