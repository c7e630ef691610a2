"""What the decoder's numbers mean: a distribution over the pixels of an image.

A likelihood turns the decoder's raw output, (B, K·C, H, W), into p(x | z), whose negative logarithm is priced per
image in nats: the sum over pixels and channels, never their mean, so that it can stand beside a KL divergence.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn


class PixelDistribution(ABC):
    """p(x | z) over images in [0, 1], independent pixels."""

    mean: Tensor
    """E[x | z], (B, C, H, W) in [0, 1]."""

    @abstractmethod
    def each(self, x: Tensor) -> Tensor:
        """−ln p of every number of the images, (B, C, H, W) → the same, nats."""

    def nll(self, x: Tensor) -> Tensor:
        """−ln p(x | z), summed over pixels: (B, C, H, W) → (B,), nats."""
        return per_image(self.each(x))

    @abstractmethod
    def sample(self) -> Tensor:
        """One draw, (B, C, H, W) in [0, 1]."""


class Likelihood(nn.Module, ABC):
    """Raw decoder output → pixel distribution.

    `numbers`: how many decoder channels each image channel takes.
    """

    numbers: int = 1

    @abstractmethod
    def forward(self, raw: Tensor) -> PixelDistribution:
        """(B, numbers·C, H, W) → p(x | z)."""


def per_image(values: Tensor) -> Tensor:
    """Sum everything but the batch: (B, …) → (B,)."""
    return values.flatten(1).sum(1)


def clamp01(values: Tensor) -> Tensor:
    """Into the range of pixels."""
    return torch.clamp(values, 0.0, 1.0)
