"""Presets that learn to undo damage."""

from __future__ import annotations

from typing import Literal

from torch import nn

from apercu import registry
from apercu.bottlenecks.identity import Identity
from apercu.corruptions import parse
from apercu.decoders.base import Decoder
from apercu.encoders.base import Encoder
from apercu.ends import Correcting, WithPixels
from apercu.heads import MarkHead
from apercu.likelihoods.base import Likelihood
from apercu.model import Autoencoder
from apercu.objective import Objective, Term, pixels
from apercu.objective import mark as priced_marks
from apercu.types import ImageSpec

Pixels = Literal["mse", "gaussian", "bernoulli", "logistic"]


def dae(
    image: ImageSpec,
    classes: int = 0,
    *,
    width: int = 32,
    depth: int = 2,
    blocks: int = 2,
    tile: int = 64,
    likelihood: Pixels = "gaussian",
    corruption: str = "noise|blur|holes|low|jpeg",
    mark: float = 0.0,
) -> Autoencoder:
    """Denoising autoencoder: undoes the damage that `corruption` does; a wide code that holds the image itself.

    Fully convolutional: images of any size, and of any number of channels. Larger images than `tile` pixels a side are
    learnt from in tiles, 0 for never. With a weight `mark` it also learns which pixels were damaged.
    """
    size = {"width": width, "depth": depth, "blocks": blocks}
    pixel: Likelihood = registry.part("likelihoods", likelihood)(image.maximum)
    network: Encoder = WithPixels(registry.part("encoders", "residual")(image, **size), image.channels, mark > 0)
    bottleneck = Identity(network.features, network.features)
    nn.init.eye_(bottleneck.to_code.weight)  # so that training starts from the image as it is
    nn.init.zeros_(bottleneck.to_code.bias)
    inner = registry.part("decoders", "residual")(image, network.features, pixel.numbers, **size)
    decoder: Decoder = Correcting(inner, image.channels)
    head = MarkHead(network.features, network.stride) if mark else None
    terms = {"pixels": Term(pixels)} | ({"mark": Term(priced_marks, mark)} if mark else {})
    return Autoencoder(
        image,
        network,
        bottleneck,
        decoder,
        pixel,
        Objective(terms),
        corruption=parse(corruption),
        mark_head=head,
    )
