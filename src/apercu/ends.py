"""The two ends of an autoencoder: an encoder by its name, and the decoder that mirrors it."""

from __future__ import annotations

import math

from apercu import registry
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
