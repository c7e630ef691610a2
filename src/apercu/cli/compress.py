"""`apercu compress` and `apercu decompress`: images to a few bytes each, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from apercu.cli.learn import Lesson, View
from apercu.cli.options import Channels, Device, Fit, Images, Json, Learn, ModelFolder, Size, Split
from apercu.cli.output import end, note
from apercu.errors import ApercuError

Tile = Annotated[
    int,
    typer.Option(
        "--tile",
        metavar="PIXELS",
        min=0,
        help="Compute by tiles of this side, for images larger than memory allows at once; 0 for whole images.",
    ),
]


def compress(
    model: ModelFolder,
    images: Images,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="DIR", help="The folder that gets a NAME.apc for each image.")
    ] = None,
    archive: Annotated[
        Path | None,
        typer.Option("--archive", metavar="FILE", help="One file for all images instead; it is added to if it exists."),
    ] = None,
    lossless: Annotated[bool, typer.Option("--lossless", help="Keep every pixel exactly, in larger files.")] = False,
    quality: Annotated[
        float | None,
        typer.Option(
            "--quality", metavar="Q", help="From 1, the smallest files, on; for models with several, such as codec's."
        ),
    ] = None,
    tile: Tile = 0,
    metadata: Annotated[
        bool, typer.Option("--metadata", help="Keep the colour profile and the EXIF data of the files.")
    ] = False,
    psnr: Annotated[bool, typer.Option("--psnr", help="Decode at once, and say how alike the images are.")] = False,
    learn: Learn = None,
    split: Split = "all",
    size: Size = None,
    fit: Fit = None,
    channels: Channels = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Write every image as a few bytes, a file each or one archive.

    Stopped in the midst, the same command goes on where it was. It exits with 2 where an image could not be read.

    Example: apercu compress model photos -o small
    """
    if (out is None) == (archive is None):
        raise ApercuError("say where to write: -o DIR for a file each, or --archive FILE for one file")
    from apercu.api import load
    from apercu.tasks.compress import Compress

    view = View(size, fit, channels)
    root = Path(images).expanduser()
    task = Compress(
        load(model, device),
        archive=str(archive or ""),
        lossless=lossless,
        psnr=psnr,
        quality=quality,
        tile=tile,
        metadata=str(_folder_of(root)) if metadata else "",
    )
    Lesson(learn, None, None).teach(task, "compress", view, images)
    note(f"opening {images}")
    opened = view.whole(task.model, images)
    done = task(task.model.images(opened, split), out)
    before = _originals(root, [row["id"] for row in done["images"]])
    if before is not None:
        done |= {"original_bytes": before, "ratio": before / done["bytes"]}
    failed = [{"file": problem.id, "reason": problem.reason} for problem in opened.problems]
    end(done | {"failed": failed}, as_json)


def decompress(
    model: ModelFolder,
    source: Annotated[
        Path, typer.Argument(metavar="COMPRESSED", help="A folder of .apc files, one of them, or an archive.")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="The folder that images are written to.")],
    only: Annotated[
        str, typer.Option("--only", metavar="NAME", help="The one image that is wanted, by its name there.")
    ] = "",
    tile: Tile = 0,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Write the images again that apercu compress made small: NAME.png, or NAME.tif where PNG cannot hold it.

    What is damaged or of another model is named and left out; it then exits with 2.

    Example: apercu decompress model small -o large
    """
    from apercu.api import load
    from apercu.tasks.decompress import Decompress

    end(Decompress(load(model, device), source=str(source), only=only, tile=tile)(None, out), as_json)


def _originals(root: Path, ids: list[str]) -> int | None:
    """Bytes of the files that the images came from, where each has a file."""
    files = [_folder_of(root) / image_id for image_id in ids]
    return sum(file.stat().st_size for file in files) if all(file.is_file() for file in files) else None


def _folder_of(root: Path) -> Path:
    """Where the files are that images are named by."""
    return root if root.is_dir() else root.parent
