"""Divisive normalisation, the nonlinearity of image codecs."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Divisive(nn.Module):
    """y_c = x_c / (β_c + Σ_k γ_ck |x_k|), or `inverse` x_c · (β_c + Σ_k γ_ck |x_k|), at every pixel; β, γ > 0.

    Neighbouring channels share their contrast, which makes them more independent and keeps amplitude in the code, where
    layer normalisation would take it away: a codec must write amplitude. Ballé, Laparra and Simoncelli, "Density
    modeling of images using a generalized normalization transformation" (2016), without powers and roots as in
    Johnston, Eban, Gordon and Ballé, "Computationally efficient neural image compression" (2019).
    """

    def __init__(self, channels: int, inverse: bool = False) -> None:
        super().__init__()
        self.inverse = inverse
        self.beta = nn.Parameter(torch.ones(channels))
        self.gamma = nn.Parameter(0.1 * torch.eye(channels) + 1e-3)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → the same."""
        contrast = F.conv2d(x.abs(), self.gamma.abs()[:, :, None, None], self.beta.abs() + 1e-3)
        return x * contrast if self.inverse else x / contrast


def keep_energy(layers: nn.Module) -> None:
    """Start convolutions so that E[x²] is the same behind them; He et al., "Delving deep into rectifiers" (2015).

    The usual start shrinks a code below its steps: all would be rounded to 0 at first, and nothing learnt.
    """
    for layer in layers.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")
