"""Features at several depths of the model's own encoder: maps of local structure, from fine to coarse."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from apercu.anomaly._once import once
from apercu.api import Model
from apercu.attention import Transformer
from apercu.blocks import to_map
from apercu.encoders.base import Encoder, ToVector
from apercu.ends import WithPixels
from apercu.types import Code, Grid

MOST = 3
PIXELS, CELLS = 4, 16
"""A cell is at least so many pixels wide, where there are so many cells a side all the same."""


def stages_of(model: Model) -> list[nn.Module]:
    """The layers whose outputs are read, in their order; none where the encoder makes no maps.

    The first stage sees little more than edges and is left out where there are others.
    """
    ends = all_stages(map_encoder(model.network.encoder))
    return ends[1 : 1 + MOST] if len(ends) > 2 else ends[-MOST:]


def map_encoder(encoder: Encoder) -> Encoder:
    """The encoder that makes the maps, without what is put around it."""
    while isinstance(encoder, ToVector | WithPixels):
        encoder = encoder.encoder
    return encoder


def all_stages(encoder: Encoder) -> list[nn.Module]:
    """The last layer of each stage of a convolutional encoder, which a convolution with stride begins; the middle block
    of a transformer and its last; none of others."""
    transformer = getattr(encoder, "transformer", None)
    if isinstance(transformer, Transformer):
        blocks = list(transformer.blocks)
        return [blocks[k] for k in sorted({len(blocks) // 2, len(blocks) - 1})]
    layers = [layer for net in encoder.children() if isinstance(net, nn.Sequential) for layer in net]
    begins = [k for k, layer in enumerate(layers) if isinstance(layer, nn.Conv2d) and max(layer.stride) > 1]
    return [layers[k - 1] for k in begins[1:]] + [layers[-1]] if begins else []


def watched(stages: Sequence[nn.Module], look: Callable[[], Grid]) -> list[Tensor]:
    """The maps, (B, F_k, h_k, w_k), that the stages make while `look` runs the encoder and returns the grid."""
    seen: list[Tensor] = []
    hooks = [stage.register_forward_hook(lambda module, given, output: seen.append(output)) for stage in stages]
    try:
        grid = look()
    finally:
        for hook in hooks:
            hook.remove()
    return [to_map(values, grid) if values.ndim == 3 else values for values in seen]


@once
@torch.no_grad()
def encoded(model: Model, x: Tensor) -> tuple[Code, list[Tensor]]:
    """The code of a batch, and the maps of the stages that are read on the way there."""
    network, codes = model.network.eval(), list[Code]()

    def look() -> Grid:
        codes.append(network.encode(x))
        return codes[0].grid

    maps = watched(stages_of(model), look)
    return codes[0], maps


@torch.no_grad()
def features(model: Model, x: Tensor) -> list[Tensor]:
    """What each stage says of the neighbourhood of every cell of one grid, (B, F_k, h, w) each.

    Each cell is the mean of the 3×3 around it, as in Roth et al. (2022); coarser stages are interpolated.
    """
    maps = [
        F.avg_pool2d(values.float(), 3, stride=1, padding=1, count_include_pad=False) for values in encoded(model, x)[1]
    ]
    height, width = (min(n, max(CELLS, side // PIXELS)) for n, side in zip(maps[0].shape[2:], x.shape[2:], strict=True))
    return [_on_grid(values, (height, width)) for values in maps]


def _on_grid(values: Tensor, cells: Grid) -> Tensor:
    """(B, F, h, w) → (B, F, *cells), by the mean where it is finer and interpolated where it is coarser."""
    if values.shape[2] >= cells[0] and values.shape[3] >= cells[1]:
        return F.adaptive_avg_pool2d(values, cells)
    return F.interpolate(values, cells, mode="bilinear", align_corners=False)
