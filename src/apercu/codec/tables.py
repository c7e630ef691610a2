"""Learn the tables of a model from its training images: once, when it compresses for the first time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save as save_arrays

from apercu.api import Model, batch_size
from apercu.bottlenecks._context import Context
from apercu.bottlenecks.rated import Rated
from apercu.codec.codec import Codec, side_of
from apercu.codec.contexts import Contexts
from apercu.codec.learn import learn
from apercu.codec.learn_context import learn_context, part
from apercu.codec.lossless import Decoding, learn_lossless
from apercu.codec.quality import EIGHTHS, at, point_of, points
from apercu.codec.scales import Scales
from apercu.codec.symbols import Rounded, bounds, chosen, learn_rounding, symbols_of
from apercu.data.batches import in_order
from apercu.data.images import ImageSet
from apercu.errors import ApercuError

LEARNT_FROM = 20_000
LEARNT_PIXELS, LEARNT_PICTURES = 2_000_000, 2_000
Arrays = dict[str, NDArray[Any]]


def learn_tables(model: Model, images: ImageSet, steps: int = 600) -> bytes:
    """The tables of a model: the prior of its symbols, and what says how these are made; as safetensors.

    Raises:
        ApercuError: there are no images, or the code says nothing.
    """
    _some(images)
    list(model.outputs(images.subset([0])))  # says why, where a model draws no images
    images = images.subset(np.random.default_rng(0).permutation(len(images))[:LEARNT_FROM])
    bottleneck = model.network.bottleneck
    if isinstance(bottleneck, Rated):
        return save_arrays(_learn_rated(model, bottleneck, images, steps))
    symbols = chosen(model.network) or learn_rounding(model, images)
    _says_something(symbols.alphabet)
    codes = []
    for _, output in model.outputs(images, decode=False):
        codes += list(symbols.of(output.code).cpu().numpy().reshape(len(output.code.z), *output.code.grid, -1))
    arrays = _named("prior", learn(codes, symbols.alphabet, steps).tensors())
    if isinstance(symbols, Rounded):
        arrays |= {"round.step": symbols.step, "round.low": symbols.low, "round.count": symbols.count}
    return save_arrays(arrays)


def learn_exact(codec: Codec, images: ImageSet, steps: int = 1500) -> bytes:
    """The tables that pixels are written with where none may be lost; as safetensors.

    Raises:
        ApercuError: there are no images.
    """
    _some(images)
    order = np.random.default_rng(0).permutation(len(images))[:LEARNT_PICTURES]
    few = int((np.cumsum(images.sizes[order].prod(1)) <= LEARNT_PIXELS).sum())
    images = images.subset(order[: max(1, few)])
    network, pairs = codec.model.network, []
    decoding, point = Decoding(network, codec.symbols), point_of(network, None)
    for batch in in_order(images, batch_size(images.spec), codec.model.device):
        with torch.no_grad(), at(network, point):
            code = network.encode(batch.x)
        size = (batch.x.shape[2], batch.x.shape[3])
        picture = decoding.picture(codec.symbols.of(code), code.grid, size, point / EIGHTHS)
        pairs.append((images.read(batch.index.cpu().numpy()).astype(np.int64), picture))
    return learn_lossless(pairs, int(images.spec.maximum), steps)


def _learn_rated(model: Model, bottleneck: Rated, images: ImageSet, steps: int) -> Arrays:
    """The tables of a quantizer with several qualities: the prior of its symbols at all of them, or of those of its
    hyperprior, with that in whole numbers."""
    known = points(model.network)
    if bottleneck.hyper is None:  # half way between two qualities too
        known = list(range(known[0], known[-1] + 1, EIGHTHS // 2))
    images = images.subset(np.arange(min(len(images), max(1, LEARNT_FROM // len(known)))))
    if bottleneck.context is not None:
        return _learn_beside(model, bottleneck, bottleneck.context, images, known, steps)
    found = list(_codes(model, images, known))
    places, codes = [point for point, _ in found], [code for _, code in found]
    arrays: Arrays = {}
    if bottleneck.hyper is not None:
        side = side_of(bottleneck.hyper, model.device)
        low = np.zeros(bottleneck.dim, np.int64)
        count, alphabet = low + 2 * bottleneck.reach + 1, bottleneck.hyper.alphabet
        codes = [side(code[None].astype(np.int64) - bottleneck.reach)[0] for code in codes]
        arrays = _named("scales", Scales.of(bottleneck.hyper, bottleneck.reach).arrays())
    else:
        lowest = np.min([code.min((0, 1)) for code in codes], 0).astype(np.int64)
        low, count = bounds(lowest, np.max([code.max((0, 1)) for code in codes], 0).astype(np.int64))
        codes, alphabet = [code - low for code in codes], tuple(count.tolist())
        _says_something(alphabet)
    prior = learn(codes, alphabet, steps, points=places if len(known) > 1 else None)
    return arrays | _named("prior", prior.tensors()) | {"graded.low": low, "graded.count": count}


def _learn_beside(
    model: Model, bottleneck: Rated, context: Context, images: ImageSet, known: Sequence[int], steps: int
) -> Arrays:
    """The context of a quantizer in whole numbers, learnt from parts of codes at these points."""
    rng = np.random.default_rng(0)
    found = [(point, part(code - bottleneck.reach, rng)) for point, code in _codes(model, images, known)]
    places, parts = [point for point, _ in found], [steps_of for _, steps_of in found]
    learnt = Contexts.of(learn_context(context, parts, places, steps), bottleneck.reach)
    low = np.zeros(bottleneck.dim, np.int64)
    return _named("context", learnt.arrays()) | {"graded.low": low, "graded.count": low + 2 * bottleneck.reach + 1}


def _codes(model: Model, images: ImageSet, known: Sequence[int]) -> Iterator[tuple[int, NDArray[Any]]]:
    """The symbols of every image at each of these points, (h, w, D); of two bytes, for many are in memory at once."""
    for point in known:
        for batch in in_order(images, batch_size(images.spec), model.device):
            with torch.no_grad(), at(model.network, point):
                code = model.network.encode(batch.x)
            symbols = symbols_of(code).to(torch.int16).cpu().numpy()
            yield from ((point, each) for each in symbols.reshape(len(batch.x), *code.grid, -1))


def _named(group: str, arrays: dict[str, NDArray[Any]]) -> Arrays:
    return {f"{group}.{name}": array for name, array in arrays.items()}


def _some(images: ImageSet) -> None:
    if len(images) == 0:
        raise ApercuError("there are no images here to learn the tables from")


def _says_something(alphabet: tuple[int, ...]) -> None:
    if max(alphabet) == 1:
        raise ApercuError(
            "all of these images get the same code; learn the tables from more images with --learn IMAGES, "
            "or train the model longer"
        )
