"""JPEG artefacts: the discrete cosine transform of 8×8 blocks, rounded to steps that grow as quality falls.

    c̃ = q·round(c / q),  q = the tables of ITU-T T.81, Annex K, scaled by quality as the Independent JPEG Group does

Colours are rounded as luminance and halved chrominance; images of other than three channels, each by itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from apercu.corruptions.base import Graded

__all__ = ["JPEG"]

LUMINANCE = (
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56,
    14, 17, 22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92,
    49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
)  # fmt: skip
CHROMINANCE = (
    17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99,
    47, 66, 99, 99, 99, 99, 99, 99, *(99,) * 32,
)  # fmt: skip
TO_YCC = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))


@dataclass(frozen=True)
class JPEG(Graded):
    """The artefacts of quality 100·(1 − strength)."""

    USUAL = (0.4, 0.9)
    MOST = 0.99
    UNIT = "1 − quality / 100"

    def by(self, x: Tensor, strength: Tensor) -> Tensor:
        """(B, C, H, W), (B, 1, 1, 1) → the same shape."""
        if x.shape[1] != 3:
            return torch.where(strength > 0, _rounded(x * 255 - 128, strength, LUMINANCE) / 255 + 128 / 255, x)
        matrix = torch.tensor(TO_YCC, device=x.device)
        planes = torch.einsum("kc,bchw->bkhw", matrix, x * 255 - 128)
        light = _rounded(planes[:, :1], strength, LUMINANCE)
        colour = _rounded(F.avg_pool2d(planes[:, 1:], 2, ceil_mode=True), strength, CHROMINANCE)
        colour = F.interpolate(colour, scale_factor=2.0, mode="bilinear")[..., : x.shape[2], : x.shape[3]]
        back = torch.einsum("ck,bkhw->bchw", torch.linalg.inv(matrix), torch.cat([light, colour], 1))
        return torch.where(strength > 0, back / 255 + 128 / 255, x)


def _rounded(values: Tensor, strength: Tensor, table: tuple[int, ...]) -> Tensor:
    """Levels from −128 to 127, (B, C, H, W), after the cosine transform of each block was rounded."""
    batch, channels, height, width = values.shape
    padded = F.pad(values, (0, -width % 8, 0, -height % 8), mode="replicate")
    down, across = padded.shape[2] // 8, padded.shape[3] // 8
    blocks = padded.view(batch, channels, down, 8, across, 8).transpose(3, 4)
    cosines, steps = _cosines(values.device), _steps(strength, table)
    rounded = ((cosines @ blocks @ cosines.T) / steps).round() * steps
    planes = (cosines.T @ rounded @ cosines).transpose(3, 4).reshape(padded.shape)
    return planes[..., :height, :width]


def _cosines(device: torch.device) -> Tensor:
    """The orthonormal DCT-II of eight numbers, (8, 8)."""
    k = torch.arange(8, device=device)
    cosines = torch.cos(math.pi / 8 * (k + 0.5) * k[:, None]) / 2
    cosines[0] /= math.sqrt(2)
    return cosines


def _steps(strength: Tensor, table: tuple[int, ...]) -> Tensor:
    """The step of each coefficient at these strengths, (B, 1, 1, 1, 8, 8)."""
    quality = (100 * (1 - strength)).clamp(1, 100)
    percent = torch.where(quality < 50, 5000 / quality, 200 - 2 * quality)
    steps = torch.tensor(table, device=strength.device).view(8, 8)
    return ((steps * percent + 50) / 100).floor().clamp(1, 255)[:, None, None]
