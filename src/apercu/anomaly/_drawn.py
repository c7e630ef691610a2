"""What a model makes of an image, and how the two are compared; shared by the scores of reconstruction."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from apercu.anomaly._once import once
from apercu.anomaly._stages import encoded
from apercu.api import Model
from apercu.types import Batch


def lacks_pixels(model: Model) -> str:
    """What a model lacks to be compared with its own drawing."""
    return f"preset {model.recipe.preset} decodes no pixels" if model.network.backbone is not None else ""


@once
@torch.no_grad()
def drawn(model: Model, x: Tensor) -> Tensor:
    """x̂ = E[x | z], (B, C, H, W) → the same shape.

    Of a masked model, each pixel as it is predicted while it is hidden: the mean over the fixed masks that hide it.
    """
    network = model.network.eval()
    if network.masking is None:
        code = encoded(model, x)[0]
        mean: Tensor = network.decode(code.z, code.grid, (x.shape[2], x.shape[3])).mean.float()
        return mean
    nothing = torch.full((len(x),), -1, device=x.device)
    batch = Batch(x, nothing, nothing)
    total, often = torch.zeros_like(x), torch.zeros_like(x[:, :1])
    for one in network.masking.fixed(batch):
        hidden = torch.ones_like(often) if one.hidden is None else one.hidden.to(x.dtype)
        total += hidden * _mean(model, one)
        often += hidden
    return total / often


def _mean(model: Model, batch: Batch) -> Tensor:
    pixels = model.network(batch, noise=False).pixels
    if pixels is None:
        raise TypeError("the model did not decode")
    mean: Tensor = pixels.mean.float()
    return mean


def smooth(maps: Tensor, sigma: float) -> Tensor:
    """(B, H, W) → the same, by a Gaussian of `sigma` pixels; edges are repeated."""
    radius = min(math.ceil(3 * sigma), *(side - 1 for side in maps.shape[1:]))
    if radius < 1:
        return maps
    place = torch.arange(-radius, radius + 1, device=maps.device)
    weights = (-0.5 * (place / sigma).square()).softmax(0).to(maps.dtype)
    planes = F.pad(maps[:, None], (radius, radius, radius, radius), mode="replicate")
    planes = F.conv2d(F.conv2d(planes, weights.view(1, 1, -1, 1)), weights.view(1, 1, 1, -1))
    return planes[:, 0]


def to_pixels(model: Model, cells: Tensor, x: Tensor) -> Tensor:
    """Values of the cells of a map, (B, h, w), as those of the pixels that they stand for: (B, H, W), smoothed.

    The map also covers the margin that the model adds to images whose sides it cannot halve.
    """
    stride = model.network.encoder.stride
    height, width = x.shape[2:]
    whole = (height + -height % stride, width + -width % stride)
    pixels = F.interpolate(cells[:, None], whole, mode="bilinear", align_corners=False)[:, 0]
    return smooth(pixels[:, :height, :width], reach(x))


def reach(x: Tensor) -> float:
    """How wide maps are smoothed, in pixels: a 64th of the shorter side, from 1 to 4 (4 as PatchCore takes for 224)."""
    return min(4.0, max(1.0, min(x.shape[2:]) / 64))


def magnitude(x: Tensor) -> Tensor:
    """√(∂x/∂i)² + (∂x/∂j)² by Sobel's filters of the mean over channels, (B, C, H, W) → (B, H, W)."""
    kernel = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]], device=x.device) / 8
    grey = F.pad(x.mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    both = F.conv2d(grey, torch.stack([kernel, kernel.T])[:, None])
    return both.square().sum(1).add(1e-12).sqrt()
