"""The two ends of an autoencoder: an encoder by its name, and the decoder that mirrors it."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from apercu import registry
from apercu.blocks import standardised, to_map, to_tokens
from apercu.decoders.base import Decoder, FromVector
from apercu.encoders.base import Encoder, ToVector
from apercu.likelihoods.base import Likelihood
from apercu.types import Grid, ImageSpec


def code_grid(image: ImageSpec, encoder: Encoder) -> Grid:
    """The grid of the map that `encoder` makes of such images."""
    return math.ceil(image.height / encoder.stride), math.ceil(image.width / encoder.stride)


def both_ends(
    image: ImageSpec, name: str, likelihood: str, dim: int, width: int, hidden: int
) -> tuple[Encoder, Decoder, Likelihood]:
    """Encoder, mirrored decoder and likelihood of a vector code of `dim` numbers."""
    pixel: Likelihood = registry.part("likelihoods", likelihood)(image.maximum)
    encoder: Encoder = registry.part("encoders", name)(image, width=width)
    decoder_part = registry.part("decoders", name)
    if encoder.vector:
        return encoder, decoder_part(image, dim, pixel.numbers, width=width), pixel
    grid = code_grid(image, encoder)
    decoder: Decoder = decoder_part(image, encoder.features, pixel.numbers, width=width)
    return ToVector(encoder, grid, hidden), FromVector(decoder, dim, grid, encoder.features, hidden), pixel


class WithPixels(Encoder):
    """Tokens that also hold the pixels of their cell, row by row: f = [x of the cell, features of `encoder`].

    With `standard`, the encoder sees every image at the same brightness and contrast.
    """

    def __init__(self, encoder: Encoder, channels: int, standard: bool = False) -> None:
        super().__init__()
        self.encoder, self.stride, self.standard = encoder, encoder.stride, standard
        self.features = channels * encoder.stride**2 + encoder.features

    def forward(self, x: Tensor) -> tuple[Tensor, Grid]:
        """(B, C, H, W) → (B, h·w, C·stride² + F), (h, w)."""
        tokens, grid = self.encoder(standardised(x) if self.standard else x)
        return torch.cat([to_tokens(F.pixel_unshuffle(x, self.stride)), tokens], 2), grid


class Correcting(Decoder):
    """raw = logit(pixels that the tokens hold) + correction by `decoder`, for likelihoods whose mean is a sigmoid.

    After Zhang et al., "Beyond a Gaussian denoiser: residual learning of deep CNN for image denoising" (2017): what a
    damaged image already shows need not be learnt. Held
    pixels are kept `MARGIN` away from black and white, so that logits are finite.
    """

    MARGIN = 0.02

    def __init__(self, decoder: Decoder, channels: int) -> None:
        super().__init__()
        self.decoder, self.stride, self.channels = decoder, decoder.stride, channels

    def forward(self, z: Tensor, grid: Grid) -> Tensor:
        """(B, N, C·stride² + F) → (B, K·C, H, W)."""
        held = F.pixel_shuffle(to_map(z[..., : self.channels * self.stride**2], grid), self.stride)
        raw = self.decoder(z, grid)
        return torch.cat([raw[:, : self.channels] + torch.logit(held, self.MARGIN), raw[:, self.channels :]], 1)
