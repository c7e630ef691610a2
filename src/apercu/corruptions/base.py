"""What every damage is: a change of whole batches, each image by its own draw from torch's global generator.

    x̃ ~ q(x̃ | x),  x̂ = decoder(encoder(x̃)),  price = −ln p(x | z(x̃))

Vincent, Larochelle, Bengio and Manzagol, "Extracting and composing robust features with denoising autoencoders" (2008).
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, final

import torch
import torch.nn.functional as F
from torch import Tensor

from apercu.errors import ApercuError
from apercu.types import Batch

SEEN = 0.02  # a change that is smaller in every channel is none


class Corruption(ABC):
    """(B, C, H, W) in [0, 1] → the same shape and range, other images."""

    @abstractmethod
    def damage(self, x: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1], contiguous → the same shape and range; may draw from torch's global generator."""

    @final
    def __call__(self, x: Tensor) -> Tensor:
        """The damaged images, channels-last; full precision, no gradients."""
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            return self.damage(x.contiguous()).contiguous(memory_format=torch.channels_last)

    @final
    def damaged(self, batch: Batch) -> Batch:
        """The batch with damaged images, and in `clean` those that the decoder must explain."""
        return dataclasses.replace(batch, x=self(batch.x), clean=batch.target)


@dataclass(frozen=True)
class Graded(Corruption, ABC):
    """One kind of damage, by a strength that is drawn evenly from [low, high] for each image; 0 changes nothing.

    `USUAL`: the range where none is given; `MOST`: the largest strength that means something; `UNIT`: what a strength
    is, in words.

    Raises:
        ApercuError: a range that is empty or leaves [0, MOST].
    """

    low: float
    high: float

    USUAL: ClassVar[tuple[float, float]]
    MOST: ClassVar[float]
    UNIT: ClassVar[str]

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.high <= self.MOST:
            name, (low, high) = type(self).__name__.lower(), self.USUAL
            raise ApercuError(
                f"{name} takes a strength from 0 to {self.MOST:g} ({self.UNIT}) or a range of them, smaller one first, "
                f"such as {name}:{low:g}-{high:g}"
            )

    def damage(self, x: Tensor) -> Tensor:
        """Every image by a strength of its own."""
        drawn = torch.rand(len(x), 1, 1, 1, device=x.device)
        return self.by(x, self.low + (self.high - self.low) * drawn).clamp(0, 1)

    @abstractmethod
    def by(self, x: Tensor, strength: Tensor) -> Tensor:
        """(B, C, H, W), (B, 1, 1, 1) → the images damaged by these strengths, before they are clipped to [0, 1]."""


def changed(x: Tensor, damaged: Tensor) -> Tensor:
    """The pixels that damage has changed to the eye, (B, C, H, W) twice → (B, H, W) bool.

    Gaps of a pixel inside, which were the same by chance, are closed.
    """
    there = F.pad(((damaged - x).abs() > SEEN).any(1).float(), (1, 1, 1, 1))
    return -F.max_pool2d(-F.max_pool2d(there, 3, 1, padding=1), 3, 1) > 0
