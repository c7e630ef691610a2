"""A vision encoder that others trained, from huggingface.co or a folder; its features stand in place of the pixels.

    f(x) = (h(x) − m) / s,  h(x) = summary of the image and mean of its patches

This is what the linear classifiers of DINOv2 read (Oquab et al., "DINOv2: learning robust visual features without
supervision", 2023). A convolutional network gives the mean of its last map alone. m and s are the mean and standard
deviation of every feature over the training images, so that all features weigh the same.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from apercu.encoders._checkpoint import Checkpoint
from apercu.encoders.base import Encoder
from apercu.errors import ApercuError
from apercu.types import Grid, ImageSpec

__all__ = ["Pretrained"]


class Pretrained(Encoder):
    """The features of one encoder, (B, 1, F), of images of any size, which are resized to what it was trained with.

    `source`: `hf:owner/name`, `hf:` and a folder, or a `description`; `frozen`: its weights stay as they are. It is
    built with random weights: `fetch` takes those of the checkpoint, and loading a model those of the model.
    """

    vector = True
    centre: Tensor
    scale: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, image: ImageSpec, source: str, frozen: bool = True) -> None:
        super().__init__()
        if image.channels not in (1, 3):
            raise ApercuError(
                f"a pretrained encoder takes grey or colour images and these have {image.channels} channels; "
                "choose another preset, such as vae"
            )
        self.checkpoint, self.frozen = Checkpoint.read(source), frozen
        self.network = self.checkpoint.build()
        for name in ("mean", "std"):
            expected = torch.tensor(getattr(self.checkpoint, name)).view(-1, 1, 1)
            self.register_buffer(name, expected, persistent=False)
        self.network.requires_grad_(not frozen)
        self.features = self._count(image.channels)
        self.register_buffer("centre", torch.zeros(self.features))
        self.register_buffer("scale", torch.ones(self.features))

    @property
    def description(self) -> str:
        """All that is needed to build it without a hub."""
        return str(self.checkpoint)

    @property
    def image(self) -> ImageSpec:
        """What the features are as an image: F channels of one number."""
        return ImageSpec(self.features, 1, 1, maximum=1.0)

    def fetch(self) -> None:
        """Take the weights of the checkpoint.

        Raises:
            ApercuError: they cannot be reached, are not in safetensors, or are not whole.
        """
        self.network = self.checkpoint.load().requires_grad_(not self.frozen)
        self.train(self.training)

    def settle(self, features: Tensor) -> None:
        """Measure m and s over the raw features of the training images, (n, F); one that never changes keeps s = 1."""
        spread, self.centre[:] = torch.std_mean(features, 0, correction=0)
        self.scale[:] = torch.where(spread > 1e-6, spread, 1.0)

    def standard(self, features: Tensor) -> Tensor:
        """(h − m) / s, (B, F)."""
        return (features - self.centre) / self.scale

    def raw(self, x: Tensor) -> Tensor:
        """h: (B, C, H, W) in [0, 1] → (B, F)."""
        side = self.checkpoint.side
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            if x.shape[2:] != (side, side):
                mode = "bicubic" if self.checkpoint.bicubic else "bilinear"
                x = F.interpolate(x, (side, side), mode=mode, antialias=True).clamp(0, 1)
            seen = self.network(pixel_values=(x.expand(-1, 3, -1, -1) - self.mean) / self.std)
            return _summary(seen).float()

    def _count(self, channels: int) -> int:
        """F, by looking at nothing."""
        side = self.checkpoint.side
        try:
            with torch.no_grad():
                return self.train(False).raw(torch.zeros(1, channels, side, side)).shape[1]
        except (ValueError, TypeError, RuntimeError) as error:
            reason = str(error).partition("\n")[0]
            source = self.checkpoint.source
            raise ApercuError(f"the encoder {source} does not take images of {side}×{side} ({reason})") from error

    def forward(self, x: Tensor) -> tuple[Tensor, Grid]:
        """(B, C, H, W) → (B, 1, F), (1, 1)."""
        return self.standard(self.raw(x)).unsqueeze(1), (1, 1)

    def train(self, mode: bool = True) -> Pretrained:
        """A frozen encoder drops nothing out and counts no statistics, whatever trains above it."""
        super().train(mode and not self.frozen)
        return self


def _summary(seen: Any) -> Tensor:  # noqa: ANN401 - the library has a type for every network
    """(B, F) from a map, (B, K, h, w), or from tokens, (B, T, K): those of the whole image, then a square of patches.

    The patches are the last g² tokens, g = ⌊√T⌋: there are always fewer of the others than 2g + 1.
    """
    last: Tensor = seen.last_hidden_state
    pooled: Tensor | None = seen.pooler_output
    if last.ndim == 4 and pooled is not None:
        return pooled.flatten(1)
    whole = last[:, 0] if pooled is None else pooled
    patches = last[:, -(math.isqrt(last.shape[1]) ** 2) :]
    return torch.cat([whole, patches.mean(1)], 1)
