"""The five systems of the articles: plain, contractive and variational autoencoders, the VAE-CNN and the VQ-VAE."""

from __future__ import annotations

from typing import Any, Literal

from apercu import registry
from apercu.augment import views_for
from apercu.bottlenecks.base import Bottleneck
from apercu.bottlenecks.contractive import Contractive
from apercu.bottlenecks.fsq import checked_levels
from apercu.bottlenecks.gaussian import Gaussian
from apercu.bottlenecks.identity import Identity
from apercu.corruptions import parse
from apercu.decoders.base import Decoder
from apercu.encoders.base import Encoder
from apercu.ends import both_ends, code_grid
from apercu.errors import ApercuError
from apercu.heads import ContrastHead, LabelHead, pooled_size
from apercu.likelihoods.base import Likelihood
from apercu.model import Autoencoder
from apercu.objective import Objective, Term, consistency, contrast, cost, label, pixels, taught
from apercu.types import ImageSpec

Network = Literal["dense", "conv", "residual", "vit"]
Pixels = Literal["mse", "gaussian", "bernoulli", "logistic"]


def ae(
    image: ImageSpec,
    classes: int = 0,
    *,
    dim: int = 32,
    encoder: Network = "dense",
    width: int = 64,
    hidden: int = 0,
    likelihood: Pixels = "mse",
    corruption: str = "",
) -> Autoencoder:
    """Autoencoder: dense 784-64-32 as in the third article, or convolutional; pixels alone."""
    network, decoder, pixel = both_ends(image, encoder, likelihood, dim, width, hidden)
    bottleneck, objective = Identity(network.features, dim), Objective({"pixels": Term(pixels)})
    return Autoencoder(image, network, bottleneck, decoder, pixel, objective, corruption=parse(corruption))


def cae(
    image: ImageSpec,
    classes: int = 0,
    *,
    dim: int = 32,
    encoder: Literal["dense", "conv", "residual"] = "dense",
    width: int = 64,
    hidden: int = 0,
    likelihood: Pixels = "mse",
    contraction: float = 0.1,
) -> Autoencoder:
    """Contractive autoencoder: pixels + `contraction` · ‖∂z/∂x‖², a code that small changes do not move."""
    network, decoder, pixel = both_ends(image, encoder, likelihood, dim, width, hidden)
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
    corruption: str = "",
) -> Autoencoder:
    """Variational autoencoder: pixels + `beta` · KL(q(z|x) ‖ N(0, I)); the convolutional one of articles 2 and 5."""
    network, decoder, pixel = both_ends(image, encoder, likelihood, dim, width, hidden)
    objective = Objective({"pixels": Term(pixels), "kl": Term(cost("kl"), beta, warmup)})
    bottleneck = Gaussian(network.features, dim, free_bits)
    return Autoencoder(image, network, bottleneck, decoder, pixel, objective, corruption=parse(corruption))


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
    domain: Literal["auto", "digits", "objects", "texture", "medical", "aerial"] = "auto",
    teach: Literal["neighbours", "sure"] = "neighbours",
    corruption: str = "",
) -> Autoencoder:
    """VAE and classifier trained end to end: ELBO of every image + `lam` · cross-entropy of the labelled ones.

    Unlabelled images also take part in recognition: strong views of them must be given an answer. `teach` neighbours
    takes it from labelled images that look alike to the network, which first learns to tell images apart, and from the
    network itself; sure takes the network's own alone, where it is sure. `lam` 0 takes one nat of label for each value
    of the image, so that the parts pull about equally hard; `augment` is the strength of the views, 0 for none and
    nothing taught; `domain` is what the images show, which decides how they may be varied.
    """
    weight = lam or float(image.dimensions)
    network, decoder, pixel = both_ends(image, encoder, likelihood, dim, width, hidden)
    terms = {"pixels": Term(pixels), "kl": Term(cost("kl"), beta, warmup), "label": Term(label, weight)}
    head, telling_apart = LabelHead(dim, _at_least_two(classes, "vae_cnn")), None
    if augment > 0 and teach == "neighbours":
        terms |= {"contrast": Term(contrast, weight), "taught": Term(taught, weight)}
        telling_apart = ContrastHead(dim)
    elif augment > 0:
        terms["consistency"] = Term(consistency, weight)
    return Autoencoder(
        image,
        network,
        Gaussian(network.features, dim, free_bits),
        decoder,
        pixel,
        Objective(terms),
        head,
        views_for(image, augment, domain) if augment > 0 else None,
        corruption=parse(corruption),
        contrast_head=telling_apart,
    )


def vqvae(
    image: ImageSpec,
    classes: int = 0,
    *,
    dim: int = 32,
    codes: int = 512,
    encoder: Literal["conv", "residual", "vit"] = "residual",
    width: int = 32,
    depth: int = 2,
    likelihood: Pixels = "gaussian",
    commitment: float = 5.0,
    codebook: Literal["ema", "gradient"] = "ema",
    lam: float = 0.0,
    quantizer: Literal["vq", "fsq", "rvq", "uniform"] = "vq",
    distance: Literal["euclidean", "cosine"] = "euclidean",
    gradient: Literal["straight-through", "rotation"] = "straight-through",
    stages: int = 4,
    levels: tuple[int, ...] = (8, 5, 5, 5),
    rate: float = 1.0,
    corruption: str = "",
) -> Autoencoder:
    """VQ-VAE: a map of symbols, by default from a codebook of `codes`; images of any size, colour and grey.

    `lam` above 0 adds a label head with that weight on its cross-entropy. With `quantizer` fsq the code has a dimension
    for each of `levels`, whatever `dim` is.
    """
    dim = len(checked_levels(levels)) if quantizer == "fsq" else dim
    network: Encoder = registry.part("encoders", encoder)(image, width=width, depth=depth)
    pixel: Likelihood = registry.part("likelihoods", likelihood)(image.maximum)
    decoder: Decoder = registry.part("decoders", encoder)(image, dim, pixel.numbers, width=width, depth=depth)
    own: dict[str, dict[str, Any]] = {
        "vq": {"codes": codes, "update": codebook, "distance": distance, "gradient": gradient},
        "rvq": {"codes": codes, "stages": stages, "gradient": gradient},
        "fsq": {"levels": levels},
        "uniform": {},
    }
    bottleneck: Bottleneck = registry.part("bottlenecks", quantizer)(network.features, dim, **own[quantizer])
    terms = {"pixels": Term(pixels)}
    if quantizer in ("vq", "rvq"):
        terms["commitment"] = Term(cost("commitment"), commitment)
    if quantizer == "vq" and codebook == "gradient":
        terms["codebook"] = Term(cost("codebook"))
    if quantizer == "uniform":
        terms["rate"] = Term(cost("rate"), rate, warmup=0.2)
    head = None
    if lam > 0:
        terms["label"] = Term(label, lam)
        grid = code_grid(image, network)
        if not image.uniform:
            raise ApercuError("a label head needs images of one size; give --size, or leave lam at 0")
        head = LabelHead(pooled_size(dim, grid), _at_least_two(classes, "vqvae with lam"))
    damage = parse(corruption)
    return Autoencoder(image, network, bottleneck, decoder, pixel, Objective(terms), head, corruption=damage)


def _at_least_two(classes: int, preset: str) -> int:
    if classes < 2:
        raise ApercuError(
            f"{preset} learns to tell classes apart and these images have {classes or 'none'}; "
            "put the images of each class into a folder of its own or give --labels FILE.csv, or use --preset vae"
        )
    return classes
