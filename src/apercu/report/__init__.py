"""One HTML page that shows what a model learnt; it holds everything that it shows."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

from apercu.api import Model
from apercu.checkpoint import write_atomically
from apercu.data.images import ImageSet
from apercu.data.open import Images
from apercu.errors import ApercuError
from apercu.pages import environment, inline
from apercu.report.again import make_again
from apercu.report.health import code_size, show_health
from apercu.report.look import look
from apercu.report.recognition import class_by_class, recognise
from apercu.report.sections import code_map, curves, show_reconstructions, show_samples
from apercu.report.summary import Rows, summarise
from apercu.report.trust import show_trust

__all__ = ["write_report"]


def write_report(model: Model, images: Images, path: Path, comparison: Rows | None = None) -> Path:
    """Write the page to `path`, about the test images, or validation or training images where there are none.

    `comparison`: other results to stand beside, such as {"name": "PCA + SVM", "accuracy": 0.9, "spread": 0.01,
    "note": "100 labels", "ours": False}.

    Raises:
        ApercuError: there are no images, or they are not of the model's kind.
    """
    split, chosen = _choose(model, images)
    seen = look(model, chosen)
    found = recognise(model, chosen)
    page = (
        environment()
        .get_template("report.html")
        .render(
            summary=summarise(model, split, seen, found, code_size(model, seen), comparison or ()),
            curves=curves(model),
            reconstructions=show_reconstructions(model, seen),
            samples=show_samples(model, seen.film),
            map=code_map(seen, found),
            classes=class_by_class(found, seen) if found is not None and len(found.known) else None,
            trust=show_trust(model, found) if found is not None and len(found.known) else None,
            health=show_health(model, seen),
            again=make_again(model),
            film=seen.film.notes(seen.images.spec.channels),
            split={"test": "test", "val": "validation", "train": "training"}[split],
            looked_at=seen.counted,
            **_inline(),
        )
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, page.encode())
    return path


def _choose(model: Model, images: Images) -> tuple[str, ImageSet]:
    """The images that say most about new ones."""
    for split in ("test", "val", "train"):
        if len(images.split(split)):
            return split, model.images(images, split)
    raise ApercuError("there are no images to report on; name those that the model learnt from")


def _inline() -> dict[str, str]:
    """Style and program of the page; the hash is what lets a browser run this program and no other."""
    style, program = inline("report.css"), inline("report.js")
    digest = base64.b64encode(hashlib.sha256(program.encode()).digest()).decode("ascii")
    return {"style": style, "program": program, "digest": digest}
