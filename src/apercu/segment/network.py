"""A light decoder on the stages of an encoder: from its maps, fine to coarse, to a class for every pixel.

    p_k = W_k·norm(f_k),  t_K = p_K,  t_k = block(p_k + upsampled(t_{k+1})),  logits = V·t_1, upsampled

f_1 … f_K are the maps of the stages, then further halvings of the last one, which see more of the surroundings. After
Lin et al., "Feature pyramid networks for object detection" (2017).
"""

from __future__ import annotations

import copy
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from apercu.anomaly._stages import all_stages, map_encoder, watched
from apercu.blocks import ChannelNorm, ResidualBlock
from apercu.encoders.base import Encoder
from apercu.errors import ApercuError
from apercu.model import Autoencoder
from apercu.types import Grid

WIDTH = 32
COARSEST, DEEPER = 4, 3
"""Halvings go on until a crop has so many cells a side, at most so often."""


class Pyramid(nn.Module):
    """Maps of `features` channels, fine to coarse, to `numbers` for each cell of the finest."""

    def __init__(self, features: list[int], numbers: int, deeper: int) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(nn.Sequential(ChannelNorm(f), nn.Conv2d(f, WIDTH, 1)) for f in features)
        self.deeper = nn.ModuleList(ResidualBlock(WIDTH) for _ in range(deeper))
        self.blocks = nn.ModuleList(ResidualBlock(WIDTH) for _ in range(len(features) + deeper - 1))
        self.out = nn.Sequential(ChannelNorm(WIDTH), nn.SiLU(), nn.Conv2d(WIDTH, numbers, 1))

    def forward(self, maps: list[Tensor]) -> Tensor:
        """(B, F_k, h_k, w_k) each → (B, numbers, h_1, w_1)."""
        levels = [lateral(values) for lateral, values in zip(self.laterals, maps, strict=True)]
        for block in self.deeper:
            levels.append(block(F.avg_pool2d(levels[-1], 2, ceil_mode=True)))
        top = levels.pop()
        for block in self.blocks:
            level = levels.pop()
            top = block(level + _at(top, (level.shape[2], level.shape[3])))
        logits: Tensor = self.out(top)
        return logits


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
        logits = _at(self.pyramid(maps), (padded.shape[2], padded.shape[3]))
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


def _at(values: Tensor, size: Grid) -> Tensor:
    """(B, F, h, w) → (B, F, *size), interpolated."""
    if tuple(values.shape[2:]) == size:
        return values
    return F.interpolate(values, size, mode="bilinear", align_corners=False)
