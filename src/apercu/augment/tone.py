"""What the values of an image are. Every amount is relative to the image's own values, so that one range suits dim
16-bit scans and bright photographs; all channels change alike but under `Colour`, so that grey stays grey."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from apercu.augment.base import Op, draw, mean_and_spread, smooth_field


@dataclass(frozen=True)
class Level(Op):
    """x' = m + e^c·(x − m) + b·s, with the image's mean m and standard deviation s."""

    contrast: float = 0.0
    brightness: float = 0.0

    def __call__(self, x: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] → the same shape and range."""
        mean, spread = mean_and_spread(x)
        gain = draw(x, self.contrast).exp()
        return (x * gain + (mean * (1 - gain) + draw(x, self.brightness) * spread)).clamp_(0, 1)


@dataclass(frozen=True)
class Gamma(Op):
    """x' = l + (h − l)·((x − l) / (h − l))^γ between the image's darkest value l and its brightest h; γ = e^g."""

    gamma: float

    def __call__(self, x: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] → the same shape and range."""
        low, high = x.amin((1, 2, 3), keepdim=True), x.amax((1, 2, 3), keepdim=True)
        reach = (high - low).clamp(min=1e-6)
        return (low + reach * ((x - low) / reach) ** draw(x, self.gamma).exp()).clamp_(0, 1)


@dataclass(frozen=True)
class Shade(Op):
    """x' = x·e^f with a smooth field f: uneven light."""

    light: float

    def __call__(self, x: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] → the same shape and range."""
        return (x * (smooth_field(x, 2) * self.light).exp()).clamp_(0, 1)


@dataclass(frozen=True)
class Noise(Op):
    """x' = x + a·s·n, n ~ N(0, 1) the same in all channels, with the image's standard deviation s."""

    deviation: float

    def __call__(self, x: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] → the same shape and range."""
        grain = torch.randn(len(x), 1, *x.shape[2:], device=x.device)
        return (x + grain * (draw(x, self.deviation) * mean_and_spread(x)[1])).clamp_(0, 1)


@dataclass(frozen=True)
class Focus(Op):
    """x' = x + a·(blur(x) − x): blurred where a is above 0, sharpened below.

    The blur is Gaussian with σ a fortieth of the side, and at most 2 pixels: flaws are small in large images too.
    """

    blur: float

    def __call__(self, x: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] → the same shape and range."""
        deviation = min(min(x.shape[2:]) / 40, 2.0)
        down, across = (_gaussian(n, deviation, x.device) for n in x.shape[2:])
        return x.lerp(down @ x @ across.T, draw(x, self.blur)).clamp_(0, 1)


@dataclass(frozen=True)
class Stroke(Op):
    """x' = x + |a|·(widened(x) − x): bright strokes get wider where a is above 0, dark ones below (grey morphology)."""

    width: float

    def __call__(self, x: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] → the same shape and range."""
        amount = draw(x, self.width)
        sign = torch.where(amount > 0, 1.0, -1.0)
        wide = x * sign
        for _ in range(max(1, round(min(x.shape[2:]) / 32))):
            for axis in (2, 3):
                rest = x.shape[axis] - 1
                before = torch.cat([wide.narrow(axis, 0, 1), wide.narrow(axis, 0, rest)], axis)
                after = torch.cat([wide.narrow(axis, 1, rest), wide.narrow(axis, rest, 1)], axis)
                wide = torch.maximum(wide, torch.maximum(before, after))
        return x.lerp(wide * sign, amount.abs()).clamp_(0, 1)


@dataclass(frozen=True)
class Posterize(Op):
    """x' = the multiple of q nearest to x, with steps up to `step`."""

    step: float

    def __call__(self, x: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] → the same shape and range."""
        step = draw(x, self.step).abs().clamp(min=1e-4)
        return ((x / step).round() * step).clamp_(0, 1)


@dataclass(frozen=True)
class Solarize(Op):
    """x' = 1 − x where x > t; t is at least 1 − `share`."""

    share: float

    def __call__(self, x: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] → the same shape and range."""
        return torch.where(x > 1 - draw(x, self.share).abs(), 1 - x, x)


@dataclass(frozen=True)
class Colour(Op):
    """Saturation by e^s, hue by an angle (degrees): a turn of RGB about the grey axis. Only for three channels."""

    saturation: float = 0.0
    hue: float = 0.0

    def __call__(self, x: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] → the same shape and range."""
        if x.shape[1] != 3:
            return x
        angle, gain = draw(x, math.radians(self.hue)), draw(x, self.saturation).exp()
        # Rodrigues' turn about (1, 1, 1) / √3, as the weights of a channel, the next and the one after it.
        here, aside = (1 - gain * angle.cos()) / 3, gain * angle.sin() / math.sqrt(3)
        turned = (here + gain * angle.cos()) * x + (here - aside) * x.roll(-1, 1) + (here + aside) * x.roll(-2, 1)
        return turned.clamp_(0, 1)


def _gaussian(count: int, deviation: float, device: torch.device) -> Tensor:
    """Gaussian weights between all pixels of a line, (count, count); each row sums to 1."""
    place = torch.arange(count, device=device)
    return (-0.5 * ((place[:, None] - place) / deviation) ** 2).softmax(1)
