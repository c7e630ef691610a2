"""See what each number of a code does: moved one at a time, two at a time where there are two, and between images.

`traversals.png` has a row for each coordinate of the code, those that hold most first, moved from −3 to +3 standard
deviations around the mean code; with IMAGES there is the same around the first of them, `NAME-traversals.png`, and the
ways between them two by two, `between.png`. A code of two numbers is drawn whole, `manifold.png`. For codes that are
maps there are only the ways between images.

Example: apercu latent MODEL IMAGES -o coordinates
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from apercu.api import Model
from apercu.bottlenecks.base import Quantizer
from apercu.bottlenecks.gaussian import Gaussian
from apercu.data.images import ImageSet
from apercu.errors import ApercuError
from apercu.explain.coordinates import STEPS, plane, traversals
from apercu.explain.disentanglement import dci, gaps, turned
from apercu.pages.names import file_names
from apercu.sheet import contact_sheet, save_image
from apercu.tasks._factors import known_factors
from apercu.tasks._own import own_images
from apercu.tasks.base import Result, Task
from apercu.tasks.generate import on_the_way
from apercu.types import Code
from apercu.validate import concatenate, sample_of

__all__ = ["Latent"]

REACH = 3.0
SIDE = 15
FEWEST = 40
TRAVERSALS = "Each row moves one coordinate of the code and leaves the others; those that hold most come first."
MANIFOLD = "The whole code: its first number grows to the right, its second upwards, over the middle 95 % of the prior."
BETWEEN = "Each row leads from one image to another; both ends are drawn from their codes."

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Axes:
    """The coordinates of a vector code, in the order of what they hold: `held` (D,) of the `quantity`.

    `centre`, `reach`: (D,), the code that they are moved around and how far; `effect`: (D,), how much the pixels differ
    between the two ends, root mean square in [0, 1].
    """

    quantity: str
    order: list[int]
    held: list[float] | None
    centre: torch.Tensor
    reach: torch.Tensor
    effect: list[float]


class Latent(Task):
    """`n`: images whose code is moved, and pairs of images to go between; `coordinates`: rows of a sheet, at most;
    `factors`: for evaluate, a CSV file with a path and what varies in each image; `seed`: what is drawn.
    """

    needs_images = False

    def __init__(self, model: Model, *, n: int = 4, coordinates: int = 16, factors: str = "", seed: int = 0) -> None:
        super().__init__(model)
        for name, value in {"n": n, "coordinates": coordinates}.items():
            if value < 1:
                raise ApercuError(f"{name} must be at least 1, not {value}")
        self.n, self.coordinates, self.factors, self.seed = n, coordinates, factors, seed

    def __call__(self, images: ImageSet | None, out: Path | None = None) -> Result:
        """What each coordinate holds and changes, those that hold most first; with `out`, the sheets.

        Raises:
            ApercuError: a model that decodes no pixels, or one that takes nothing but images and was given none.
        """
        if images is not None and len(images) == 0:
            raise ApercuError("there are no images here")
        vector = self.model.network.encoder.vector
        if not vector and images is None:
            raise ApercuError(
                f"the code of preset {self.model.recipe.preset} is a map, of which only ways between images can be "
                "shown; name images: apercu latent MODEL IMAGES -o OUT"
            )
        axes = self._axes(images) if vector else None
        sheets = {} if out is None else self._sheets(axes, images)
        if out is not None:
            for name, sheet in sheets.items():
                save_image(sheet, out / name)
        rows = [] if axes is None else [_row(axes, number) for number in axes.order]
        return {"n": len(rows), "coordinates": rows, "sheets": [f"{name}.png" for name in sheets]}

    def evaluate(self, images: ImageSet) -> Result:
        """Whether coordinates stand for one thing each: MIG and DCI over the classes and the columns of `factors`.

        "mig_turned": MIG of the same codes after a random rotation, which any meaning of single coordinates must beat.

        Raises:
            ApercuError: nothing is known to vary, or too few images.
        """
        known, factors = known_factors(images, self.factors)
        known_rows = sample_of(known, seed=self.seed)
        if len(known_rows) < FEWEST:
            raise ApercuError(
                f"measuring this takes {FEWEST} images whose factors are known and these are {len(known)}"
            )
        if len(known_rows) < len(known):
            known, factors = known_factors(known_rows, self.factors)
        codes = self.model.features(known).astype(np.float64)
        each = gaps(codes, factors)
        rotated = gaps(turned(codes, self.seed), factors)
        return {
            "n": len(known),
            "factors": list(factors),
            "mig": float(np.mean(list(each.values()))),
            "mig_turned": float(np.mean(list(rotated.values()))),
            "mig_of_each": each,
        } | dci(codes, factors, self.seed)

    def _axes(self, images: ImageSet | None) -> Axes:
        """By the codes of these images, of those that it was validated on or learnt from, or by what it draws alone."""
        bottleneck = self.model.network.bottleneck
        known = images if images is not None else own_images(self.model, "val") or own_images(self.model)
        centre = torch.zeros(bottleneck.dim, device=self.model.device)
        reach, held, quantity = torch.full_like(centre, REACH), None, "effect"
        if known is not None:
            code = self._code(sample_of(known))
            health = bottleneck.health(code)
            held, quantity = health.per_dimension, "kl" if isinstance(bottleneck, Gaussian) else "variance"
            centre = code.mean.mean((0, 1))
            if not isinstance(bottleneck, Gaussian):
                reach = REACH * code.mean.flatten(0, 1).std(0, unbiased=False)
        effect = self._effect(centre, reach)
        order = np.argsort(-np.array(effect if held is None else held), kind="stable").tolist()
        return Axes(quantity, order, held, centre, reach, effect)

    def _code(self, images: ImageSet) -> Code:
        return concatenate([output.code for _, output in self.model.outputs(images, decode=False)])

    def _effect(self, centre: torch.Tensor, reach: torch.Tensor) -> list[float]:
        ends = traversals(centre, list(range(len(centre))), reach)[:, [0, -1]]
        white = np.float32(self.model.recipe.image.maximum)
        drawn = self.model.decode(ends.flatten(0, 1).cpu()).astype(np.float32) / white
        low, high = drawn[0::2], drawn[1::2]
        effect: list[float] = np.sqrt(np.square(high - low).reshape(len(low), -1).mean(1)).tolist()
        return effect

    def _sheets(self, axes: Axes | None, images: ImageSet | None) -> dict[str, NDArray[np.uint8]]:
        """The sheets by name, (3, H, W)."""
        sheets = {}
        some = None if images is None else images.subset(np.arange(min(2 * self.n, len(images))))
        if axes is not None:
            sheets["traversals"] = self._strips(axes, axes.centre)
            if len(axes.order) == 2:
                sheets["manifold"] = self._drawn(plane(SIDE), SIDE, title=MANIFOLD)
        if some is None:
            return sheets
        codes, names = self.model.encode(some), file_names(some.ids)
        if axes is not None:
            for image_id, code in zip(some.ids[: self.n], codes[: self.n], strict=True):
                sheets[f"{names[image_id]}-traversals"] = self._strips(axes, torch.from_numpy(code[0]).to(axes.centre))
        if len(codes) > 1:
            gaussian = isinstance(self.model.network.bottleneck, Gaussian)
            ways = [on_the_way(a, b, STEPS, gaussian) for a, b in zip(codes[0::2], codes[1::2], strict=False)]
            ends = list(zip(some.ids[0::2], some.ids[1::2], strict=False))
            said = [caption for a, b in ends for caption in (a, *[""] * (STEPS - 2), b)]
            sheets["between"] = self._drawn(self._settled(np.concatenate(ways)), STEPS, said, some, title=BETWEEN)
        return sheets

    def _settled(self, codes: Floats) -> Floats:
        bottleneck = self.model.network.bottleneck
        if not isinstance(bottleneck, Quantizer):
            return codes
        with torch.no_grad():
            return bottleneck.quantise(torch.from_numpy(codes).to(self.model.device)).cpu().numpy()

    def _strips(self, axes: Axes, code: torch.Tensor) -> NDArray[np.uint8]:
        chosen = axes.order[: self.coordinates]
        moved = traversals(code, chosen, axes.reach)
        steps = [f"{step:+.2g} s.d." if step else "as it is" for step in np.linspace(-REACH, REACH, STEPS).tolist()]
        said = [
            f"coordinate {number}\n{step}" if place == 0 else f"\n{step}"
            for number in chosen
            for place, step in enumerate(steps)
        ]
        return self._drawn(moved.flatten(0, 1).cpu().numpy(), STEPS, said, title=TRAVERSALS)

    def _drawn(
        self, codes: Floats, columns: int, said: Sequence[str] = (), like: ImageSet | None = None, title: str = ""
    ) -> NDArray[np.uint8]:
        size = None if like is None else (like.spec.height, like.spec.width)
        white = np.float32(self.model.recipe.image.maximum)
        return contact_sheet(list(self.model.decode(codes, size) / white), columns, said, title=title)


def _row(axes: Axes, number: int) -> Result:
    held = {} if axes.held is None else {axes.quantity: axes.held[number]}
    return {"coordinate": number, **held, "effect": axes.effect[number]}
