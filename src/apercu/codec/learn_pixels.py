"""Learn the networks that pixels are written with, from training images and the decoder's pictures of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from apercu.codec.coding import Integers
from apercu.codec.pixels import OUTPUTS, PARTS, PLANES, SPIKES, WHITE, Canvas, Net

HIDDEN, BATCH = 32, 2048
UNIT = 1024
FLOOR, FAR = 2.0**-20, 1e3

Samples = tuple[Tensor, Tensor, Tensor]
"""Features (T, F), the values to repeat (T, SPIKES) and the value with its lower and upper bound (T, 2), in whites."""


def learn_pixels(
    images: Iterable[tuple[Integers, Integers]], maximum: int, pixels: int = 300_000, steps: int = 1500, seed: int = 0
) -> list[Net]:
    """Networks for the planes of images, given as (pixels, picture), each (B, C, H, W), the picture of 0 … 2¹⁶.

    At most `pixels` of each plane are learnt from, spread over all images.
    """
    images = list(images)
    planes = min(PLANES, images[0][0].shape[1])
    share = pixels / sum(values[:, 0].size for values, _ in images)
    nets = []
    for plane in range(planes):
        rng = np.random.default_rng((seed, plane))
        parts = [_sample(values, picture, maximum, plane, share, rng) for values, picture in images]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            nets.append(_fit([torch.cat(column) for column in zip(*parts, strict=True)], steps))
    return nets


def _sample(
    values: Integers, picture: Integers, maximum: int, plane: int, share: float, rng: np.random.Generator
) -> Samples:
    """Some pixels of a plane."""
    canvas = Canvas(picture, maximum)
    canvas.fill(values)
    size = values.shape[2:]
    count = max(1, round(min(1.0, share) * size[0] * size[1]))
    i, j = np.divmod(rng.permutation(size[0] * size[1])[:count], size[1])
    value = values[:, plane, i, j]
    bounds = np.stack([2 * value - 1, 2 * value + 1], -1) / (2 * maximum)
    bounds[..., 0][value == 0], bounds[..., 1][value == maximum] = -FAR, FAR
    columns = canvas.features(plane, i, j) / WHITE, canvas.spikes(plane, i, j) / WHITE, bounds
    features, spikes, ends = (torch.from_numpy(column.reshape(-1, column.shape[-1])).float() for column in columns)
    return features, spikes, ends


class _Net(nn.Module):
    """The network in floating point."""

    def __init__(self, features: Tensor, ends: Tensor) -> None:
        super().__init__()
        count = features.shape[1]
        self.first, self.second = nn.Linear(count, HIDDEN), nn.Linear(HIDDEN, HIDDEN)
        self.last, self.skip = nn.Linear(HIDDEN, OUTPUTS), nn.Linear(count, OUTPUTS, bias=False)
        nn.init.normal_(self.last.weight, std=0.02)
        with torch.no_grad():
            # The means start at the best linear prediction, side by side.
            self.skip.weight.zero_()
            self.skip.weight[:PARTS] = _least_squares(features, ends)
            self.last.bias.zero_()
            self.last.bias[:PARTS] = torch.linspace(-0.05, 0.05, PARTS)
            self.last.bias[PARTS : 2 * PARTS] = torch.linspace(3, 6, PARTS)

    def forward(self, features: Tensor, spikes: Tensor, ends: Tensor) -> Tensor:
        """−log₂ P of each pixel, (T,)."""
        h = self.second(self.first(features).relu()).relu()
        mean, rate, share = (self.last(h) + self.skip(features)).split([PARTS, PARTS, PARTS + SPIKES], 1)
        scaled = (ends[:, :, None] - mean[:, None]) * rate.clamp(0, 12).exp()[:, None]
        smooth = scaled[:, 1].sigmoid() - scaled[:, 0].sigmoid()
        repeated = (ends[:, :1] < spikes) & (spikes < ends[:, 1:])
        masses = torch.cat([smooth, repeated.float()], 1)
        price: Tensor = -((share.softmax(1) * masses).sum(1) + FLOOR).log2()
        return price

    def whole(self) -> Net:
        """The same in whole numbers."""

        def matrix(values: Tensor) -> NDArray[np.int16]:
            whole = (values.detach().T * UNIT).round().clamp(-32767, 32767).contiguous()
            return whole.numpy().astype(np.int16)

        def bias(values: Tensor) -> NDArray[np.int32]:
            return (values.detach() * WHITE).round().clamp(-(2**30), 2**30).numpy().astype(np.int32)

        first, second, last, skip = (matrix(each.weight) for each in (self.first, self.second, self.last, self.skip))
        a, b, c = (bias(each.bias) for each in (self.first, self.second, self.last))
        return Net(first, second, last, skip, a, b, c)


def _least_squares(features: Tensor, ends: Tensor) -> Tensor:
    """The weights of the best linear prediction of the value, (F,)."""
    x, y = features.double(), ends.clamp(0, 1).mean(1).double()
    weights: Tensor = torch.linalg.solve(x.T @ x + 1e-3 * torch.eye(x.shape[1]).double(), x.T @ y)
    return weights.float()


def _fit(columns: Sequence[Tensor], steps: int) -> Net:
    net = _Net(columns[0], columns[2])
    optimizer = torch.optim.Adam(net.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    for _ in range(steps):
        index = torch.randint(len(columns[0]), (BATCH,))
        optimizer.zero_grad()
        net(*(column[index] for column in columns)).mean().backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return net.whole()
