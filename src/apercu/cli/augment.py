"""The command `augment`: see what training makes of the images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from apercu.cli.follow import counting
from apercu.cli.options import Channels, Fit, Images, Json, Size
from apercu.cli.output import in_words, show
from apercu.errors import ApercuError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from apercu.augment import Views
    from apercu.data.images import ImageSet

DomainName = Literal["auto", "digits", "objects", "texture", "medical", "aerial"]
WEAK, STRONG = 3, 6
SHOWN = 192


def augment(
    images: Images,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="SHEET", help="The PNG file that is written.")],
    domain: Annotated[DomainName, typer.Option("--domain", help="What the images show; auto goes by their kind.")] = (
        "auto"
    ),
    strength: Annotated[float, typer.Option("--strength", metavar="X", help="1 is usual, 0 changes nothing.")] = 1.0,
    count: Annotated[int, typer.Option("--count", metavar="N", help="Rows, of one image each.")] = 8,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Another number draws others.")] = 0,
    size: Size = None,
    fit: Fit = None,
    channels: Channels = None,
    as_json: Json = False,
) -> None:
    """Draw the views that training would see: in each row an image, 3 weak views of it, 6 strong ones.

    A person should still recognise every one of them. If not, lower --strength or choose another --domain.

    Example: apercu augment photos -o sheet.png --domain objects
    """
    if count < 1:
        raise ApercuError(f"--count must be at least 1, not {count}")
    if out.suffix.lower() != ".png":
        raise ApercuError(f"the sheet is a PNG file: name it {out.with_suffix('.png')}")
    import numpy as np

    from apercu.augment import choose_domain, views_for
    from apercu.data.open import open_images
    from apercu.engine import seed_noise
    from apercu.sheet import contact_sheet, save_image

    with counting("opening") as progress:
        opened = open_images(images, size=size, fit=fit or "error", channels=channels, progress=progress).split("all")
    views = views_for(opened.spec, strength, domain)
    chosen = np.random.default_rng(seed).permutation(len(opened))[:count].tolist()
    seed_noise(seed, "cpu")
    cells = [cell for number in chosen for cell in _row(views, opened, number)]
    sheet = out.with_suffix(".png")
    said = [text for k in chosen for text in (opened.ids[k], *["weak"] * WEAK, *["strong"] * STRONG)]
    save_image(contact_sheet(cells, 1 + WEAK + STRONG, said), sheet)
    answer = {
        "domain": views.domain,
        "because": choose_domain(opened.spec)[1] if domain == "auto" else "it was asked for",
        "strength": strength,
        "weak": [str(op) for op in views.weak],
        "strong": [str(op) for op in views.strong],
        "images": [opened.ids[number] for number in chosen],
        "sheet": str(sheet),
    }
    show(answer, in_words(answer), as_json)


def _row(views: Views, images: ImageSet, number: int) -> NDArray[np.float32]:
    """An image, weak and strong views of it, (1 + WEAK + STRONG, C, H, W); large ones are drawn smaller."""
    import numpy as np
    import torch
    from torch.nn.functional import interpolate

    from apercu.data.batches import to_batch

    x = to_batch(images, np.repeat(number, STRONG)).x
    weak, strong = views.both(x)
    row = torch.cat([x[:1], weak[:WEAK], strong])
    shrink = SHOWN / max(row.shape[2:])
    if shrink < 1:
        row = interpolate(row, [max(1, round(side * shrink)) for side in row.shape[2:]], mode="area")
    return row.numpy()
