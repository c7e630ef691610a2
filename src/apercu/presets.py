"""Presets: one typed function each. The signature is the configuration, the command line's options (`-s dim=64`),
the saved recipe and the documentation."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any, Literal

from apercu import registry
from apercu.augment import Views
from apercu.bottlenecks.contractive import Contractive
from apercu.bottlenecks.gaussian import Gaussian
from apercu.bottlenecks.identity import Identity
from apercu.bottlenecks.vq import VQ
from apercu.decoders.base import Decoder, FromVector
from apercu.encoders.base import Encoder, ToVector
from apercu.errors import ApercuError
from apercu.heads import LabelHead, pooled_size
from apercu.likelihoods.base import Likelihood
from apercu.model import Autoencoder
from apercu.objective import Objective, Term, consistency, cost, label, pixels
from apercu.types import Grid, ImageSpec

Network = Literal["dense", "conv", "residual"]
Pixels = Literal["mse", "gaussian", "bernoulli", "logistic"]
Preset = Callable[..., Autoencoder]


def ae(
    image: ImageSpec,
    classes: int = 0,
    *,
    dim: int = 32,
    encoder: Network = "dense",
    width: int = 64,
    hidden: int = 0,
    likelihood: Pixels = "mse",
) -> Autoencoder:
    """Autoencoder: dense 784-64-32 as in the third article, or convolutional; pixels alone."""
    network, decoder, pixel, _ = _ends(image, encoder, likelihood, dim, width, hidden)
    return Autoencoder(
        image, network, Identity(network.features, dim), decoder, pixel, Objective({"pixels": Term(pixels)})
    )


def cae(
    image: ImageSpec,
    classes: int = 0,
    *,
    dim: int = 32,
    encoder: Network = "dense",
    width: int = 64,
    hidden: int = 0,
    likelihood: Pixels = "mse",
    contraction: float = 0.1,
) -> Autoencoder:
    """Contractive autoencoder: pixels + `contraction` · ‖∂z/∂x‖², a code that small changes do not move."""
    network, decoder, pixel, _ = _ends(image, encoder, likelihood, dim, width, hidden)
    objective = Objective({"pixels": Term(pixels), "contraction": Term(cost("contraction"), contraction)})
    return Autoencoder(image, network, Contractive(network.features, dim), decoder, pixel, objective)


def vae(
    image: ImageSpec,
    classes: int = 0,
    *,
    dim: int = 32,
    encoder: Network = "conv",
    width: int = 32,
    hidden: int = 0,
    likelihood: Pixels = "gaussian",
    beta: float = 1.0,
    warmup: float = 0.1,
    free_bits: float = 0.0,
) -> Autoencoder:
    """Variational autoencoder: pixels + `beta` · KL(q(z|x) ‖ N(0, I)); the convolutional one of articles 2 and 5."""
    network, decoder, pixel, _ = _ends(image, encoder, likelihood, dim, width, hidden)
    objective = Objective({"pixels": Term(pixels), "kl": Term(cost("kl"), beta, warmup)})
    return Autoencoder(image, network, Gaussian(network.features, dim, free_bits), decoder, pixel, objective)


def vae_cnn(
    image: ImageSpec,
    classes: int,
    *,
    dim: int = 64,
    encoder: Network = "residual",
    width: int = 32,
    hidden: int = 128,
    likelihood: Pixels = "gaussian",
    beta: float = 1.0,
    lam: float = 0.0,
    augment: float = 1.0,
    warmup: float = 0.1,
    free_bits: float = 0.0,
) -> Autoencoder:
    """VAE and classifier trained end to end: ELBO of every image + `lam` · cross-entropy of the labelled ones.

    Unlabelled images also take part in recognition: strong views of them must be given the answer that they get when it
    is sure. `lam` 0 takes one nat of label for each value of the image, so that the two parts pull about equally hard;
    `augment` is the strength of the views, 0 for none and no such consistency.
    """
    weight = lam or float(image.dimensions)
    network, decoder, pixel, grid = _ends(image, encoder, likelihood, dim, width, hidden)
    terms = {"pixels": Term(pixels), "kl": Term(cost("kl"), beta, warmup), "label": Term(label, weight)}
    if augment > 0:
        terms["consistency"] = Term(consistency, weight)
    head = LabelHead(pooled_size(dim, grid), _at_least_two(classes, "vae_cnn"))
    bottleneck, views = Gaussian(network.features, dim, free_bits), Views(augment) if augment > 0 else None
    return Autoencoder(image, network, bottleneck, decoder, pixel, Objective(terms), head, views)


def vqvae(
    image: ImageSpec,
    classes: int = 0,
    *,
    dim: int = 32,
    codes: int = 512,
    encoder: Literal["conv", "residual"] = "residual",
    width: int = 32,
    depth: int = 2,
    likelihood: Pixels = "gaussian",
    commitment: float = 5.0,
    codebook: Literal["ema", "gradient"] = "ema",
    lam: float = 0.0,
) -> Autoencoder:
    """VQ-VAE: a map of symbols from a codebook of `codes`; images of any size, colour and grey.

    `lam` above 0 adds a label head with that weight on its cross-entropy.
    """
    network: Encoder = registry.part("encoders", encoder)(image, width=width, depth=depth)
    pixel: Likelihood = registry.part("likelihoods", likelihood)(image.maximum)
    decoder: Decoder = registry.part("decoders", encoder)(image, dim, pixel.numbers, width=width, depth=depth)
    terms = {"pixels": Term(pixels), "commitment": Term(cost("commitment"), commitment)}
    if codebook == "gradient":
        terms["codebook"] = Term(cost("codebook"))
    head = None
    if lam > 0:
        terms["label"] = Term(label, lam)
        grid = _grid(image, network)
        if not image.uniform:
            raise ApercuError("a label head needs images of one size; give --size, or leave lam at 0")
        head = LabelHead(pooled_size(dim, grid), _at_least_two(classes, "vqvae with lam"))
    return Autoencoder(
        image, network, VQ(network.features, dim, codes, codebook), decoder, pixel, Objective(terms), head
    )


PRESETS: dict[str, Preset] = {preset.__name__: preset for preset in (ae, cae, vae, vae_cnn, vqvae)}


def defaults(preset: str) -> dict[str, Any]:
    """The settings of `preset` where none is given.

    Raises:
        ApercuError: no such preset.
    """
    if preset not in PRESETS:
        raise ApercuError(f"there is no preset {preset!r}; choose one of: {', '.join(PRESETS)}")
    parameters = inspect.signature(PRESETS[preset]).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def build(preset: str, image: ImageSpec, classes: int, settings: dict[str, Any]) -> Autoencoder:
    """The model that `preset` makes of these settings.

    Raises:
        ApercuError: no such preset, no such setting, or images that this preset cannot take.
    """
    known = defaults(preset)
    strange = sorted(set(settings) - set(known))
    if strange:
        raise ApercuError(f"preset {preset} has no setting {strange[0]!r}; it has: {', '.join(known)}")
    for name in ("dim", "width", "codes", "depth"):
        if name in settings and not (isinstance(settings[name], int) and settings[name] >= 1):
            raise ApercuError(f"{name} must be a whole number of at least 1, not {settings[name]!r}")
    model = PRESETS[preset](image, classes, **settings)
    if model.fixed_size and not image.uniform:
        raise ApercuError(
            f"the images differ in size (up to {image.height}×{image.width}) and preset {preset} needs one size; "
            "give --size HEIGHTxWIDTH, or use --preset vqvae, which takes any size"
        )
    return model


def _at_least_two(classes: int, preset: str) -> int:
    if classes < 2:
        raise ApercuError(
            f"{preset} learns to tell classes apart and these images have {classes}; "
            "put the images of each class into a folder of its own or give --labels FILE.csv, or use --preset vae"
        )
    return classes


def _grid(image: ImageSpec, encoder: Encoder) -> Grid:
    return math.ceil(image.height / encoder.stride), math.ceil(image.width / encoder.stride)


def _ends(
    image: ImageSpec, name: str, likelihood: str, dim: int, width: int, hidden: int
) -> tuple[Encoder, Decoder, Likelihood, Grid]:
    """Encoder, mirrored decoder and likelihood of a vector code, and the code's grid."""
    pixel: Likelihood = registry.part("likelihoods", likelihood)(image.maximum)
    encoder: Encoder = registry.part("encoders", name)(image, width=width)
    decoder_part = registry.part("decoders", name)
    if encoder.vector:
        return encoder, decoder_part(image, dim, pixel.numbers, width=width), pixel, (1, 1)
    grid = _grid(image, encoder)
    decoder: Decoder = decoder_part(image, encoder.features, pixel.numbers, width=width)
    vector = ToVector(encoder, grid, hidden)
    return vector, FromVector(decoder, dim, grid, encoder.features, hidden), pixel, (1, 1)
