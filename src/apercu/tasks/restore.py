"""Mend damaged images: noise, blur, missing regions, low resolution, JPEG artefacts; each at its own size and depth.

--mask names a picture whose white pixels are missing, or a folder with one for each image: they are filled, and all
others stay as they are, bit for bit. With -s scale=2 images become larger. With -s samples=8 the code is drawn eight
times, and NAME-uncertainty.png shows where the draws differ.

Example: apercu restore MODEL IMAGES -o OUT --mask holes
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from apercu.api import Model, batch_size
from apercu.bottlenecks.gaussian import Gaussian
from apercu.codec.names import names_of
from apercu.corruptions import parse
from apercu.corruptions.holes import Holes, fill
from apercu.data.batches import in_order
from apercu.data.images import ImageSet
from apercu.errors import ApercuError
from apercu.sheet import contact_sheet, save_image
from apercu.tasks._classical import Comparison
from apercu.tasks._mending import Mask, Masks, Mender
from apercu.tasks.base import Result, Task
from apercu.validate import sample_of

__all__ = ["Restore"]

SHOWN, PER_ROW = 12, 8
PAINT = (0.9, 0.6, 0.0)
TOUCHED = 0.1
"""The share of a pixel of a smaller image that is missing, from which on all of it is."""
WIDE = 0.25
"""The standard deviation, where 1 is white, that is white in a picture of uncertainty."""


@dataclass(frozen=True)
class Mended:
    """The image at `place`: its pixels in [0, 1], (C, H, W), its hole, (H, W), and the draws of its code.

    `draws`: (S, C, H, W), the one image itself where the code was not drawn.
    """

    place: int
    pixels: NDArray[np.float32]
    hole: Mask | None
    draws: NDArray[np.float32]

    @property
    def spread(self) -> NDArray[np.float32]:
        """The standard deviation of the draws, the mean over channels, (1, H, W)."""
        spread: NDArray[np.float32] = self.draws.std(0, ddof=1).mean(0, keepdims=True)
        return spread


class Restore(Task):
    """x̂ = E[x | z(x̃)]; `mask`: what is missing; `scale`: how many times larger a side becomes; `samples`: how often
    the code is drawn; `tile`: the side of the tiles of large images; `corruption`: the damage that evaluate does, that
    of training by default; `n`: how many images it takes; `seed`: what is drawn."""

    def __init__(
        self,
        model: Model,
        *,
        mask: str = "",
        scale: int = 1,
        samples: int = 0,
        tile: int = 256,
        corruption: str = "",
        n: int = 100,
        seed: int = 0,
    ) -> None:
        super().__init__(model)
        self.masks = Masks(mask) if mask else None
        self.scale, self.samples, self.corruption, self.n, self.seed = scale, samples, corruption, n, seed
        self._check(tile)
        self.mender = Mender(model.network, tile, grey="holes" in self._learnt())

    def _check(self, tile: int) -> None:
        """See that the settings mean something for this model."""
        network = self.model.network
        if network.backbone is not None:
            raise ApercuError(
                "this model decodes features and no pixels, so it cannot restore; train one with --task restore"
            )
        if self.scale < 1 or tile < 32 or self.n < 1 or self.samples < 0 or self.samples == 1:
            raise ApercuError("scale and n are at least 1, tile is at least 32, and samples is 0 or at least 2")
        if self.scale > 1 and network.fixed_size:
            raise ApercuError(
                "this model knows images of one size only, so it cannot enlarge; train one with --task restore"
            )
        if self.scale > 1 and self.masks is not None:
            raise ApercuError(
                "a mask has the size of the image as it is: fill the holes first, then enlarge the result"
            )
        if self.samples and not isinstance(network.bottleneck, Gaussian):
            raise ApercuError(
                f"the code of preset {self.model.recipe.preset} has no noise, so all samples would be the same; "
                "leave them out, or train one that has, such as: apercu fit IMAGES --preset vae -s corruption=noise"
            )

    def __call__(self, images: ImageSet | None, out: Path | None = None) -> Result:
        """Mend the images; with `out`, a file each in the type that they were stored with, and `sheet.png`.

        "failed" names the images whose mask cannot be used, and why.

        Raises:
            ApercuError: there are no images, or no mask can be used.
        """
        if images is None or len(images) == 0:
            raise ApercuError("there are no images here to restore")
        # A network of one size mends images of that size; all others see each image as it was stored.
        images = images if self.model.network.fixed_size else images.as_stored()
        holes, failed = self._holes(images)
        ready = images if self.masks is None else images.subset(sorted(holes))
        names, rows, shown = names_of(ready.ids), list[Result](), dict[int, list[NDArray[np.float32]]]()
        white = ready.spec.maximum
        for mended in self._mended(ready, [holes[i] for i in sorted(holes)]):
            name, stored = names[mended.place], ready.read([mended.place])[0]
            pixels = _stored(mended.pixels, ready)
            if mended.hole is not None:
                pixels = np.where(mended.hole, pixels, stored)
            row: Result = {"id": ready.ids[mended.place], "height": pixels.shape[1], "width": pixels.shape[2]}
            if mended.hole is not None:
                row["filled"] = float(mended.hole.mean())
            if self.samples:
                row["uncertainty"] = float(mended.spread.mean())
            rows.append(row)
            if out is not None:
                _write(mended, pixels, out / name, ready)
            if mended.place < SHOWN:
                before = stored / white if mended.hole is None else _marked(stored / white, mended.hole)
                shown[mended.place] = [_small(image) for image in (before, pixels / white)]
        if out is not None:
            pairs = [small for place in sorted(shown) for small in shown[place]]
            after = "restored" if self.masks is None else "the hole filled"
            said = [caption for place in sorted(shown) for caption in (ready.ids[place], after)]
            sheet = contact_sheet(pairs, PER_ROW, said)
            save_image(sheet, out / ("sheet" if "sheet" not in names else "before-and-after"))
        return {
            "n": len(rows),
            "model": self._about(),
            **_brought(images),
            "failed": failed,
            "images": rows,
            "out": str(out) if out else None,
        }

    def evaluate(self, images: ImageSet) -> Result:
        """PSNR (dB), SSIM and MS-SSIM of damaged and restored images, and of classical methods in the same run.

        The damage is drawn from `seed`. Where it is holes alone, all are told where these are, and "in_hole" is the
        PSNR there; otherwise the model is told nothing, and the classical methods how strong the damage is.
        """
        text = self.corruption or self._learnt() or "noise:0.2"
        corruption = parse(text)
        if len(images) == 0:
            raise ApercuError("there are no images here to damage and to restore")
        if corruption is None:
            raise ApercuError("there is no damage to undo; give it with -s corruption=noise:0.2")
        some = sample_of(images, self.n)
        comparison = Comparison(corruption)
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            for batch in in_order(some, self._together(some), self.model.device):
                damaged = corruption(batch.x)
                hole = (damaged != batch.x).any(1, keepdim=True) if isinstance(corruption, Holes) else None
                if hole is not None:
                    damaged = fill(batch.x, hole)
                comparison.add(batch.x, damaged, self.mender(damaged, hole), hole)
        return {"n": len(some), "corruption": text, "model": self._about()} | comparison.result()

    def _learnt(self) -> str:
        """The damage that the model learnt to undo, as it is written."""
        return str(self.model.recipe.settings.get("corruption", ""))

    def _about(self) -> str:
        """What the model knows of restoring, in words."""
        if self._learnt():
            return f"learnt to undo {self._learnt()}"
        if self.model.network.masking is not None:
            return "learnt to fill hidden patches, and nothing else"
        return (
            "was not trained to restore: it draws what its code can say of an image; "
            "for one that was: apercu fit IMAGES --task restore"
        )

    def _together(self, images: ImageSet) -> int:
        """How many images to mend at a time, so that large ones do not fill memory."""
        return max(1, batch_size(images.spec) // (self.scale**2 * max(1, self.samples)))

    def _holes(self, images: ImageSet) -> tuple[dict[int, Mask], list[Result]]:
        """The hole of every image that has one, by its position, and what is wrong with the others."""
        holes, failed, sizes = dict[int, Mask](), list[Result](), images.as_stored().sizes
        for place, image_id in enumerate(images.ids):
            if self.masks is None:
                break
            try:
                height, width = sizes[place].tolist()
                hole = self.masks.of(image_id, (height, width))
                if images.original is not None:
                    hole = images.original.resize(hole[None].astype(np.float32))[0] > TOUCHED
                holes[place] = hole
            except ApercuError as error:
                failed.append({"file": image_id, "reason": str(error)})
        if failed and not holes:
            raise ApercuError(f"{failed[0]['file']}: {failed[0]['reason']}")
        return holes, failed

    def _mended(self, images: ImageSet, holes: Sequence[Mask]) -> Iterator[Mended]:
        """The images, mended, in batches; `holes` has one for each of them, or none at all."""
        for batch in in_order(images, self._together(images), self.model.device):
            x, hole = batch.x, None
            if self.scale > 1:
                x = F.interpolate(x, scale_factor=float(self.scale), mode="bicubic").clamp(0, 1)
            if holes:
                hole = torch.from_numpy(np.stack([holes[i] for i in batch.index.tolist()]))[:, None].to(x.device)
            with torch.random.fork_rng():
                torch.manual_seed(self.seed + int(batch.index[0]))
                drawn = [self.mender(x, hole, noise=True) for _ in range(self.samples)]
            mean = torch.stack(drawn).mean(0) if drawn else self.mender(x, hole)
            draws = torch.stack(drawn, 1) if drawn else mean[:, None]
            for k, place in enumerate(batch.index.tolist()):
                yield Mended(place, mean[k].cpu().numpy(), holes[place] if holes else None, draws[k].cpu().numpy())


def _brought(images: ImageSet) -> Result:
    """In words, what became of images that are mended at another size than they were stored with."""
    if images.original is None:
        return {}
    size, how = f"{images.spec.height}×{images.spec.width}", images.original.resize.fit
    return {"size": f"brought to {size} by {how} and mended there, as this model knows images of that size alone"}


def _stored(pixels: NDArray[np.float32], images: ImageSet) -> NDArray[Any]:
    """[0, 1] → the values and the type that these images are stored with."""
    spec = images.spec
    values = pixels if spec.maximum == 1 else np.rint(np.clip(pixels, 0, 1) * spec.maximum)
    return values.astype(spec.dtype)


def _marked(image: NDArray[Any], hole: Mask) -> NDArray[Any]:
    """(C, H, W) in [0, 1] with its hole painted over, (3, H, W); other channels than colour are taken together."""
    ground = image if len(image) == 3 else image.mean(0, keepdims=True)
    return np.where(hole, np.array(PAINT)[:, None, None], ground)


def _small(image: NDArray[Any]) -> NDArray[np.float32]:
    """(C, H, W) with at most about 256 pixels a side, for the sheet."""
    step = max(1, max(image.shape[1:]) // 256)
    return image[:, ::step, ::step].astype(np.float32)


def _write(mended: Mended, pixels: NDArray[Any], path: Path, images: ImageSet) -> None:
    """The mended image, and where its code was drawn, every draw and how they differ."""
    # A name may have dots of its own: the ending that is replaced must be ours.
    save_image(pixels, path.with_name(f"{path.name}.png"), images.spec.maximum)
    if len(mended.draws) == 1:
        return
    for number, draw in enumerate(mended.draws, start=1):
        save_image(_stored(draw, images), path.with_name(f"{path.name}-sample-{number}.png"), images.spec.maximum)
    shown = np.rint(np.clip(mended.spread / WIDE, 0, 1) * 255).astype(np.uint8)
    save_image(shown, path.with_name(f"{path.name}-uncertainty.png"))
