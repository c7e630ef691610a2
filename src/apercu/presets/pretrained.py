"""Presets that stand on an encoder which was trained elsewhere."""

from __future__ import annotations

from apercu import registry
from apercu.bottlenecks.gaussian import Gaussian
from apercu.decoders.base import Decoder
from apercu.encoders.base import Encoder
from apercu.encoders.pretrained import Pretrained
from apercu.heads import LabelHead
from apercu.likelihoods._features import Features
from apercu.model import Autoencoder
from apercu.objective import Objective, Term, cost, label, pixels
from apercu.types import ImageSpec


def features(
    image: ImageSpec,
    classes: int = 0,
    *,
    encoder: str = "hf:facebook/dinov2-small",
    frozen: bool = True,
    dim: int = 64,
    width: int = 256,
    beta: float = 1.0,
    lam: float = 0.0,
    warmup: float = 0.1,
    free_bits: float = 0.0,
) -> Autoencoder:
    """VAE of the features of a pretrained vision encoder, and a classifier where there are classes; draws no pixels.

    `encoder` is hf:owner/name, or hf: and a folder; unless `frozen`, it is trained further. `lam` 0 takes one nat of
    label for each feature.
    """
    below = Pretrained(image, encoder, frozen)
    network: Encoder = registry.part("encoders", "dense")(below.image, width=width)
    decoder: Decoder = registry.part("decoders", "dense")(below.image, dim, width=width)
    terms = {"features": Term(pixels), "kl": Term(cost("kl"), beta, warmup)}
    if classes >= 2:
        terms["label"] = Term(label, lam or float(below.features))
    head = LabelHead(dim, classes) if classes >= 2 else None
    parts = Gaussian(network.features, dim, free_bits), decoder, Features(below.features), Objective(terms), head
    return Autoencoder(image, network, *parts, backbone=below)
