"""A light decoder on the stages of an encoder: from its maps, fine to coarse, to a class for every pixel."""

from __future__ import annotations

import copy
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from apercu.anomaly._stages import all_stages, map_encoder, watched
from apercu.encoders.base import Encoder
from apercu.errors import ApercuError
from apercu.model import Autoencoder
from apercu.pyramid import WIDTH, Pyramid, at_size
from apercu.types import Grid

COARSEST, DEEPER = 4, 3
"""Halvings go on until a crop has so many cells a side, at most so often."""


class Segmenter(nn.Module):
    """The map encoder of a model, a copy, and a pyramid on its stages; `classes` count the background.

    A `frozen` encoder is never changed. Where the finest stage is coarser than two pixels, a convolution adds a finer
    one. `crop`: the side of the images that it learns from, in pixels, which says how far it needs to see.

    Raises:
        ApercuError: the encoder makes no maps.
    """

    def __init__(self, network: Autoencoder, classes: int, crop: int, frozen: bool = False) -> None:
        super().__init__()
        if lacks(network):
            raise ApercuError(lacks(network))
        self.encoder = copy.deepcopy(map_encoder(network.encoder)).requires_grad_(not frozen)
        self.frozen = frozen
        stride, channels = self.encoder.stride, network.image.channels
        with torch.no_grad():
            device = next(self.encoder.parameters()).device
            maps = self._maps(torch.zeros(1, channels, stride, stride, device=device))
        features = [values.shape[1] for values in maps]
        self.finer: nn.Module | None = None
        if stride // maps[0].shape[2] > 2:
            self.finer = nn.Conv2d(channels, WIDTH // 2, 4, stride=2, padding=1)
            features = [WIDTH // 2, *features]
        deeper = min(DEEPER, max(0, round(math.log2(max(1, crop // stride) / COARSEST))))
        self.pyramid = Pyramid(features, classes, deeper)
        self.to(device)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1], of any size → logits, (B, classes, H, W); edges are repeated as far as is needed."""
        height, width = x.shape[2:]
        bottom, right = -height % self.encoder.stride, -width % self.encoder.stride
        padded = F.pad(x, (0, right, 0, bottom), mode="replicate") if bottom or right else x
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            maps = self._maps(padded)
        if self.finer is not None:
            maps = [self.finer(padded), *maps]
        logits = at_size(self.pyramid(maps), (padded.shape[2], padded.shape[3]))
        return logits[..., :height, :width]

    def learnt(self) -> dict[str, Tensor]:
        """The weights that are not the model's own."""
        return {name: values for name, values in self.state_dict().items() if not (self.frozen and _of_encoder(name))}

    def restore(self, learnt: dict[str, Tensor]) -> None:
        """Take the weights of `learnt` back."""
        own = {name: values for name, values in self.state_dict().items() if self.frozen and _of_encoder(name)}
        self.load_state_dict(own | learnt)

    def _maps(self, x: Tensor) -> list[Tensor]:
        def look() -> Grid:
            grid: Grid = self.encoder(x)[1]
            return grid

        return watched(all_stages(self.encoder), look)


def lacks(network: Autoencoder) -> str:
    """Why the encoder of a model cannot say what each pixel shows; "" where it can."""
    encoder: Encoder = map_encoder(network.encoder)
    if network.backbone is None and all_stages(encoder):
        return ""
    return (
        "the encoder of this model makes no maps, so it cannot say what each pixel shows; train one that does, "
        "such as --preset dae, or vae with -s encoder=conv"
    )


def _of_encoder(name: str) -> bool:
    return name.startswith("encoder.")
