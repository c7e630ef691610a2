"""What restored images without learning: the median, non-local means, BM3D, Telea's and biharmonic inpainting, bicubic.

They are told what a model is not: how strong the damage of each image is. Those that come with libraries of the extra
`classical` are measured where these are installed.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from apercu.corruptions import Corruption
from apercu.corruptions.holes import Holes
from apercu.corruptions.low import Low
from apercu.metrics import ms_ssim, psnr, ssim

Image = NDArray[np.float32]
Hole = NDArray[np.bool_]
BLOCK = 16


@dataclass(frozen=True)
class Method:
    """`restore`: (H, W, C) in [0, 1], the hole (H, W), σ → the same; `library`: what must be installed for it."""

    restore: Callable[[Image, Hole, float], NDArray[Any]]
    library: str = "scipy"


def _median(image: Image, hole: Hole, sigma: float) -> NDArray[Any]:
    from scipy.ndimage import median_filter

    return np.asarray(median_filter(image, size=(3, 3, 1)))


def _non_local_means(image: Image, hole: Hole, sigma: float) -> NDArray[Any]:
    from skimage.restoration import denoise_nl_means

    window = {"patch_size": 5, "patch_distance": 6, "channel_axis": -1}
    return np.asarray(denoise_nl_means(image, h=0.8 * sigma, sigma=sigma, **window))


def _bm3d(image: Image, hole: Hole, sigma: float) -> NDArray[Any]:
    from bm3d import bm3d, bm3d_rgb

    height, width, channels = image.shape
    short = [(0, max(0, BLOCK - side)) for side in (height, width)]  # its blocks must fit
    method = bm3d_rgb if channels == 3 else bm3d
    return np.asarray(method(np.pad(image, (*short, (0, 0)), mode="symmetric"), sigma))[:height, :width]


def _biharmonic(image: Image, hole: Hole, sigma: float) -> NDArray[Any]:
    from skimage.restoration import inpaint_biharmonic

    return np.asarray(inpaint_biharmonic(image, hole, channel_axis=-1))


def _telea(image: Image, hole: Hole, sigma: float) -> NDArray[Any]:
    import cv2

    grey = np.rint(image * 255).astype(np.uint8)
    marked = hole.astype(np.uint8)
    planes = [
        cv2.inpaint(np.ascontiguousarray(plane), marked, 3, cv2.INPAINT_TELEA) for plane in np.moveaxis(grey, 2, 0)
    ]
    return np.stack(planes, 2) / 255


def _as_it_is(image: Image, hole: Hole, sigma: float) -> NDArray[Any]:
    return image


FILTERS = {
    "median": Method(_median),
    "non-local means": Method(_non_local_means, "skimage"),
    "BM3D": Method(_bm3d, "bm3d"),
}
INPAINTING = {"biharmonic": Method(_biharmonic, "skimage"), "Telea": Method(_telea, "cv2")}
ENLARGING = {"bicubic": Method(_as_it_is)}
"""An image of low resolution is enlarged by bicubic interpolation when the damage is done."""


def methods_for(corruption: Corruption) -> dict[str, Method]:
    """Those that are made for such damage."""
    if isinstance(corruption, Holes):
        return INPAINTING
    return FILTERS | (ENLARGING if isinstance(corruption, Low) else {})


class Comparison:
    """Means over the images of what each method restores: PSNR (dB), SSIM, MS-SSIM, and PSNR in the hole."""

    def __init__(self, corruption: Corruption) -> None:
        known = methods_for(corruption)
        self.methods = {name: m for name, m in known.items() if importlib.util.find_spec(m.library) is not None}
        self.missing = sorted(known.keys() - self.methods.keys())
        self.rows: dict[str, dict[str, list[Tensor]]] = {}

    def add(self, clean: Tensor, damaged: Tensor, restored: Tensor, hole: Tensor | None) -> None:
        """Measure a batch, (B, C, H, W) each and (B, 1, H, W) bool; the classical methods are applied here."""
        clean, damaged, restored = (values.float().cpu() for values in (clean, damaged, restored))
        holes = torch.zeros_like(clean[:, :1], dtype=torch.bool) if hole is None else hole.cpu()
        sigma = (damaged - clean).square().mean((1, 2, 3)).sqrt().tolist()
        self._measure("damaged", clean, damaged, hole)
        self._measure("restored", clean, restored, hole)
        like = (*clean.shape[2:], clean.shape[1])
        for name, method in self.methods.items():
            done = [
                method.restore(image.permute(1, 2, 0).contiguous().numpy(), mask[0].numpy(), noise).reshape(like)
                for image, mask, noise in zip(damaged, holes, sigma, strict=True)
            ]
            again = torch.from_numpy(np.stack(done)).float().clamp(0, 1).permute(0, 3, 1, 2)
            again = again if hole is None else torch.where(holes, again, clean)
            self._measure(name, clean, again, hole)

    def result(self) -> dict[str, Any]:
        """The measures of damaged and restored images and of all methods, the best of these and the gain over it."""
        means = {
            name: {measure: float(torch.cat(values).nanmean()) for measure, values in row.items()}
            for name, row in self.rows.items()
        }
        measure = "in_hole" if "in_hole" in means["restored"] else "psnr"
        best = max(self.methods, key=lambda name: means[name][measure], default=None)
        return {
            "damaged": means["damaged"],
            "restored": means["restored"],
            "classical": {name: means[name] for name in self.methods},
            "best_classical": best,
            "gain": None if best is None else means["restored"][measure] - means[best][measure],
            "not_installed": self.missing,
        }

    def _measure(self, name: str, clean: Tensor, values: Tensor, hole: Tensor | None) -> None:
        measures = {"psnr": psnr(clean, values), "ssim": ssim(clean, values), "ms_ssim": ms_ssim(clean, values)}
        if hole is not None:
            inside = hole.cpu().expand_as(clean).float()
            error = ((clean - values).square() * inside).flatten(1).sum(1) / inside.flatten(1).sum(1)
            measures["in_hole"] = -10 * torch.log10(error.clamp_min(1e-10))
        for measure, value in measures.items():
            self.rows.setdefault(name, {}).setdefault(measure, []).append(value)
