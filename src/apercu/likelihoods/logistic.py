"""Discretised logistic pixels: the exact probability of every stored grey level.

    P(x = k) = s((k + ½ − μ) / s) − s((k − ½ − μ) / s),  in units of one grey level, open at both ends

The reference is Kingma et al., "Improving variational inference with inverse autoregressive flow" (2016), appendix.
It is a true probability of the stored integers, so bits per dimension and lossless coding follow from it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from apercu.errors import ApercuError
from apercu.likelihoods.base import Likelihood, PixelDistribution, clamp01

__all__ = ["Logistic"]


def log_between(lower: Tensor, upper: Tensor) -> Tensor:
    """ln(s(u) − s(l)) for the logistic function s and l < u, as ln s(u) + ln s(−l) + ln(1 − e^(l−u)).

    In this form it neither overflows nor cancels.
    """
    return F.logsigmoid(upper) + F.logsigmoid(-lower) + torch.log(-torch.expm1(lower - upper))


@dataclass
class LogisticPixels(PixelDistribution):
    """Logistic(μ, s) integrated over each grey level of width 1 / `top`."""

    mean: Tensor
    log_scale: Tensor
    top: float

    def each(self, x: Tensor) -> Tensor:
        """−ln P(x), (B, C, H, W)."""
        half = 0.5 / self.top
        centred = x - self.mean
        inverse = (-self.log_scale).exp()
        upper, lower = (centred + half) * inverse, (centred - half) * inverse
        log_p = torch.where(x < half, F.logsigmoid(upper), log_between(lower, upper))
        log_p = torch.where(x > 1 - half, F.logsigmoid(-lower), log_p)
        return -log_p

    def sample(self) -> Tensor:
        """μ + s·logit(u), rounded to the grey levels."""
        uniform = torch.rand_like(self.mean).clamp(1e-5, 1 - 1e-5)
        value = clamp01(self.mean + self.log_scale.exp() * uniform.logit())
        return (value * self.top).round() / self.top


class Logistic(Likelihood):
    """Two numbers a channel: μ = sigmoid(raw₀) and ln s, bounded so that s lies between 1/50 grey level and e."""

    numbers = 2

    def __init__(self, maximum: float = 255.0) -> None:
        super().__init__()
        if maximum <= 1:
            raise ApercuError(
                "the logistic likelihood prices stored integers and these images are floating-point; "
                "choose likelihood=gaussian, or store the images with 8 or 16 bits"
            )
        self.top = float(maximum)

    def forward(self, raw: Tensor) -> PixelDistribution:
        """(B, 2C, H, W) → discretised logistic."""
        mean, log_scale = raw.float().chunk(2, dim=1)
        floor = -math.log(50 * self.top)
        return LogisticPixels(mean.sigmoid(), (log_scale - 3.0).clamp(floor, 1.0), self.top)
