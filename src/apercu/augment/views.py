"""Two views of every image of a batch."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from apercu.augment.base import OneOf, Op
from apercu.augment.domains import DOMAINS, domain_for
from apercu.augment.tone import Colour, Posterize, Solarize
from apercu.errors import ApercuError
from apercu.types import Batch, ImageSpec

FOR_PICTURES = (Colour, Posterize, Solarize)


@dataclass(frozen=True)
class Views:
    """A weak and a strong view of every image of a batch, as the domain has them.

    `strength` 1 is right for most images, 0 changes nothing. `pictures` false leaves out what mixes colours or folds
    values: right where these are measurements, and where there are no colours.

    Raises:
        ApercuError: no such domain, or a strength that is no number of at least 0.
    """

    strength: float = 1.0
    domain: str = "digits"
    pictures: bool = True

    def __post_init__(self) -> None:
        if self.domain not in DOMAINS:
            raise ApercuError(f"there is no domain {self.domain!r}; choose one of: {', '.join(DOMAINS)}")
        if not (math.isfinite(self.strength) and self.strength >= 0):
            raise ApercuError(f"the strength of views must be a number of at least 0, not {self.strength}")

    @property
    def weak(self) -> tuple[Op, ...]:
        """What is done, one after the other, to the view that is learnt from."""
        return self._ready(DOMAINS[self.domain].weak)

    @property
    def strong(self) -> tuple[Op, ...]:
        """What is done to the view that must be given the same answer."""
        return self._ready(DOMAINS[self.domain].strong)

    def __call__(self, batch: Batch) -> Batch:
        """The batch with its images replaced by weak views, and `strong` filled."""
        weak, strong = self.both(batch.x)
        return dataclasses.replace(batch, x=weak, strong=strong)

    def both(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, H, W) in [0, 1] → a weak and a strong view of each image."""
        return _apply(self.weak, x), _apply(self.strong, x)

    def _ready(self, ops: tuple[Op, ...]) -> tuple[Op, ...]:
        if self.strength == 0:
            return ()
        return tuple(op.scaled(self.strength) for op in (ops if self.pictures else _without(ops)))


def views_for(image: ImageSpec, strength: float = 1.0, domain: str = "auto") -> Views:
    """The views that suit these images; `domain` "auto" chooses by `domain_for`.

    Raises:
        ApercuError: no such domain, or a strength that is no number of at least 0.
    """
    pictures = image.channels == 3 and image.maximum <= 255
    return Views(strength, domain_for(image) if domain == "auto" else domain, pictures)


def _apply(ops: tuple[Op, ...], x: Tensor) -> Tensor:
    """(B, C, H, W) in [0, 1] → what all operations make of it, channels-last; full precision, no gradients."""
    if not ops:
        return x
    with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
        x = x.contiguous()  # every operation is fastest plane by plane
        for op in ops:
            x = op(x)
        return x.contiguous(memory_format=torch.channels_last)


def _without(ops: tuple[Op, ...]) -> tuple[Op, ...]:
    """What remains where values are measurements."""
    kept = (op for op in ops if not isinstance(op, FOR_PICTURES))
    return tuple(OneOf(_without(op.ops)) if isinstance(op, OneOf) else op for op in kept)
