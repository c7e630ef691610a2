"""Encode and decode: each image beside its reconstruction and their difference, with PSNR and SSIM.

Example: apercu reconstruct MODEL IMAGES -o OUT
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from apercu.api import Model
from apercu.data.images import ImageSet
from apercu.errors import ApercuError
from apercu.metrics import psnr, ssim
from apercu.sheet import contact_sheet, file_stem, save_image
from apercu.tasks.base import Result, Task

__all__ = ["Reconstruct"]


class Reconstruct(Task):
    """x̂ = E[x | z], z the code of x; `show`: how many images the sheet has."""

    def __init__(self, model: Model, *, show: int = 16) -> None:
        super().__init__(model)
        self.show = show

    def __call__(self, images: ImageSet | None, out: Path | None = None) -> Result:
        """PSNR (dB) and SSIM of every image; with `out`, a `NAME.png` each, and `sheet.png` with their errors."""
        if images is None or len(images) == 0:
            raise ApercuError("there are no images here to reconstruct")
        white = self.model.recipe.image.maximum
        rows: list[Result] = []
        shown: list[NDArray[np.float32]] = []
        said: list[str] = []
        for batch, output in self.model.outputs(images):
            if output.pixels is None:
                raise TypeError("the model did not decode")
            x, mean = batch.x.cpu(), output.pixels.mean.cpu()
            for i, p, s, original, decoded in zip(
                batch.index.tolist(), psnr(x, mean), ssim(x, mean), x.numpy(), mean.numpy(), strict=True
            ):
                rows.append({"id": images.ids[i], "psnr": float(p), "ssim": float(s)})
                if out is not None:
                    save_image(self.model.stored(decoded), out / file_stem(images.ids[i]), white)
                if len(shown) < 3 * self.show:
                    shown += [original, decoded, np.abs(original - decoded)]
                    said += [images.ids[i], f"{p:.1f} dB", "difference"]
        if out is not None:
            save_image(contact_sheet(shown, 12, said), out / "sheet")
        means = {name: float(np.mean([row[name] for row in rows])) for name in ("psnr", "ssim")}
        return {"n": len(rows), **means, "images": rows, "out": str(out) if out else None}

    def evaluate(self, images: ImageSet) -> Result:
        """Mean PSNR (dB) and SSIM; beside them the PSNR of the mean image, which any code must beat."""
        result = self(images)
        baseline = None
        if images.spec.uniform:
            pixels = images.read(np.arange(len(images))).astype(np.float32) / images.spec.maximum
            mse = ((pixels - pixels.mean(0)) ** 2).mean(axis=(1, 2, 3))
            baseline = float((-10 * np.log10(np.maximum(mse, 1e-10))).mean())
        return {name: result[name] for name in ("n", "psnr", "ssim")} | {"baseline_psnr": baseline}
