"""Presets that are trained for the size of their files."""

from __future__ import annotations

from typing import Literal

from apercu import registry
from apercu.bottlenecks.rated import Rated
from apercu.decoders.base import Decoder
from apercu.encoders.base import Encoder
from apercu.errors import ApercuError
from apercu.likelihoods._ms_ssim import MSSSIM
from apercu.likelihoods.base import Likelihood
from apercu.likelihoods.mse import MSE
from apercu.model import Autoencoder
from apercu.objective import Objective, Term, cost, weighed_pixels
from apercu.types import ImageSpec


def codec(
    image: ImageSpec,
    classes: int = 0,
    *,
    dim: int = 64,
    encoder: Literal["gdn", "residual", "conv"] = "gdn",
    width: int = 64,
    depth: int = 3,
    prior: Literal["factorised", "hyper", "context"] = "context",
    qualities: int = 6,
    lam: float = 270.0,
    span: float = 100.0,
    distortion: Literal["mse", "ms-ssim"] = "mse",
) -> Autoencoder:
    """Image codec: λ · distortion + the nats of its file; several qualities from one model, images of any size.

    `lam` is λ of the middle quality and `span` how many times larger λ of the highest is than that of the lowest.
    Divisive normalisation keeps amplitude in the code, which a codec must write and layer normalisation takes away.
    Three halvings give a token 8×8 pixels: with 64 numbers each, as many as a grey image has, so that no quality is out
    of reach; photographs at small sizes may take four.
    """
    if qualities < 1 or lam <= 0 or span < 1:
        raise ApercuError("a codec needs at least one quality, a lam above 0 and a span of at least 1")
    network: Encoder = registry.part("encoders", encoder)(image, width=width, depth=depth)
    pixel: Likelihood = MSE(image.maximum) if distortion == "mse" else MSSSIM(image.maximum)
    decoder: Decoder = registry.part("decoders", encoder)(image, dim, pixel.numbers, width=width, depth=depth)
    bottleneck = Rated(network.features, dim, prior, qualities, lam, span)
    objective = Objective({"distortion": Term(weighed_pixels), "rate": Term(cost("rate"))})
    return Autoencoder(image, network, bottleneck, decoder, pixel, objective)
