"""Hidden patches: parts of an image that a model must predict from the rest; for masked autoencoders and inpainting.

    price(x) = D · mean over hidden numbers i of −ln p(x_i | what is visible),  D numbers in the image

He et al., "Masked autoencoders are scalable vision learners" (2022). While training other patches are hidden every
time. A score must not depend on when it is asked for: it is the mean over a few fixed masks, which between them hide
every patch at least once, and every patch about equally often.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from apercu.errors import ApercuError
from apercu.types import Batch

MASKS = 4


@dataclass(frozen=True)
class Masking:
    """Which pixels a model does not see: a `share` of the square patches of `patch` pixels, never all and never none.

    Raises:
        ApercuError: a share that is not between 0 and 1.
    """

    share: float
    patch: int

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise ApercuError(f"the share of hidden patches must lie between 0 and 1, not {self.share!r}")

    def drawn(self, batch: Batch) -> Batch:
        """The batch with as many patches hidden in every image, each drawn at random."""
        height, width, hidden = self._counts(batch.x)
        place = torch.rand(len(batch.x), height * width, device=batch.x.device).argsort(1)
        return self._hide(batch, place < hidden) if hidden else batch

    def fixed(self, batch: Batch) -> Iterator[Batch]:
        """The batch under each of a few masks, which are the same for every image of its size, always."""
        height, width, hidden = self._counts(batch.x)
        count = height * width
        if not hidden:
            yield batch
            return
        masks = max(MASKS, math.ceil(count / hidden))
        place = torch.randperm(count, generator=torch.Generator().manual_seed(0)).to(batch.x.device)
        for number in range(masks):
            turned = (place - number * count // masks) % count
            yield self._hide(batch, (turned < hidden).expand(len(batch.x), -1))

    def _counts(self, x: Tensor) -> tuple[int, int, int]:
        """Rows and columns of patches, and how many of them are hidden: none where there is only one."""
        height, width = (math.ceil(side / self.patch) for side in x.shape[2:])
        count = height * width
        return height, width, min(max(round(self.share * count), 1), count - 1)

    def _hide(self, batch: Batch, patches: Tensor) -> Batch:
        """(B, N) bool → the batch with these patches hidden."""
        height, width, _ = self._counts(batch.x)
        cells = patches.view(-1, 1, height, width)
        pixels = cells.repeat_interleave(self.patch, 2).repeat_interleave(self.patch, 3)
        return dataclasses.replace(batch, hidden=pixels[..., : batch.x.shape[2], : batch.x.shape[3]])


def fill(x: Tensor, hidden: Tensor) -> Tensor:
    """(B, C, H, W), (B, 1, H, W) bool → the images with hidden pixels at the mean of their visible ones."""
    visible = (~hidden).to(x.dtype)
    mean = (x * visible).sum((2, 3), keepdim=True) / visible.sum((2, 3), keepdim=True).clamp_min(1)
    return torch.where(hidden, mean, x)
