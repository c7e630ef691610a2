"""Presets that learn by predicting what they do not see."""

from __future__ import annotations

from typing import Literal

from apercu import registry
from apercu.attention import patch_depth
from apercu.bottlenecks.identity import Identity
from apercu.corruptions import parse
from apercu.decoders.base import Decoder
from apercu.encoders.base import Encoder
from apercu.likelihoods.base import Likelihood
from apercu.masking import Masking
from apercu.model import Autoencoder
from apercu.objective import Objective, Term, pixels, visible_pixels
from apercu.types import ImageSpec

Pixels = Literal["mse", "gaussian", "bernoulli", "logistic"]


def mae(
    image: ImageSpec,
    classes: int = 0,
    *,
    dim: int = 16,
    width: int = 128,
    blocks: int = 4,
    patch: int = 0,
    share: float = 0.75,
    visible: float = 1.0,
    likelihood: Pixels = "gaussian",
    corruption: str = "",
) -> Autoencoder:
    """Masked autoencoder: a Vision Transformer that sees a quarter of the patches and predicts the others.

    `patch` is the side of a patch in pixels, a power of two, 0 to go by the size of the images; `share` of the patches
    are hidden; `visible` is the weight of the patches that are not. The decoder has half the width and half the blocks.
    """
    depth = patch_depth(image, patch)
    network: Encoder = registry.part("encoders", "vit")(image, width=width, depth=depth, blocks=blocks)
    pixel: Likelihood = registry.part("likelihoods", likelihood)(image.maximum)
    half = {"width": max(4, width // 8 * 4), "blocks": max(1, blocks // 2)}
    decoder: Decoder = registry.part("decoders", "vit")(image, dim, pixel.numbers, depth=depth, **half)
    objective = Objective({"pixels": Term(pixels), "visible": Term(visible_pixels, visible)})
    bottleneck, masking, damage = Identity(network.features, dim), Masking(share, network.stride), parse(corruption)
    return Autoencoder(image, network, bottleneck, decoder, pixel, objective, masking=masking, corruption=damage)
