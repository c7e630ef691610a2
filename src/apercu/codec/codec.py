"""Images to bytes and back: the model's code as symbols, under the prior that was learnt of them.

x ──► encoder ──► symbols ──► range coder ──► bytes ──► symbols ──► decoder ──► x̂
                              └── prior: whole numbers, kept with the model ──┘
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays
from safetensors.torch import save as save_tensors

from apercu import store
from apercu.api import BATCH, VALUES, Model
from apercu.codec.coding import DENSEST
from apercu.codec.container import FINGERPRINT, Coded, Head
from apercu.codec.learn import learn
from apercu.codec.lossless import Decoding, Lossless, learn_lossless
from apercu.codec.prior import Prior
from apercu.codec.symbols import Rounded, Symbols, chosen, learn_rounding
from apercu.data.images import ImageSet
from apercu.errors import ApercuError, FormatError

TABLES, EXACT = "compress.safetensors", "lossless.safetensors"
LEARNT_FROM = 20_000
LEARNT_PIXELS, LEARNT_PICTURES = 2_000_000, 2_000


class Codec:
    """What turns the images of one model into bytes, and bytes into images."""

    def __init__(self, model: Model, tables: bytes, exact: bytes | None = None) -> None:
        """Take the tables that `learn_tables` made for this model, and those of `learn_exact`.

        Raises:
            FormatError: they were made for another model, or are damaged.
        """
        self.model = model
        try:
            arrays = load_arrays(tables)
            prior = {name.removeprefix("prior."): a for name, a in arrays.items() if name.startswith("prior.")}
            rounding = {name.removeprefix("round."): a for name, a in arrays.items() if name.startswith("round.")}
            self.prior = Prior(**prior)
            self.symbols: Symbols = chosen(model.network) or Rounded(**rounding)
        except (SafetensorError, TypeError) as error:
            raise FormatError(f"{TABLES} does not hold the tables of this model; learn them again") from error
        if self.prior.layout.alphabet != self.symbols.alphabet:
            raise FormatError(f"{TABLES} belongs to another model; learn the tables again")
        self.lossless = None if exact is None else Lossless(model.network, self.symbols, exact)
        weights = model.recipe.files.get(store.WEIGHTS) or _hash_weights(model)
        both = weights + hashlib.sha256(tables).hexdigest()
        self.fingerprint = hashlib.sha256(both.encode()).digest()[:FINGERPRINT]

    def encode(self, images: ImageSet, lossless: bool = False) -> Iterator[list[tuple[int, Coded]]]:
        """Every image with its position, in batches of one size each; `lossless`: so that every pixel comes back.

        Raises:
            ApercuError: floating-point images, of which only an approximation can be kept.
        """
        spec = images.spec
        if lossless and spec.maximum == 1:
            raise ApercuError("floating-point images cannot be kept without loss; store them as 16-bit integers first")
        for batch, output in self.model.outputs(images, decode=False):
            height, width = batch.x.shape[2:]
            head = Head(height, width, spec.channels, spec.maximum, lossless=lossless)
            symbols, grid, index = self.symbols.of(output.code).cpu(), output.code.grid, batch.index.cpu().numpy()
            streams = [self.prior.encode(symbols.numpy().reshape(len(symbols), *grid, -1))]
            if lossless:
                streams.append(self._exact().encode(images.read(index), symbols, grid, int(spec.maximum)))
            yield [(k, Coded(head, tuple(each))) for k, *each in zip(index.tolist(), *streams, strict=True)]

    def read_symbols(self, images: Sequence[Coded]) -> torch.Tensor:
        """The symbols of coded images of one size, (B, N, S).

        Raises:
            FormatError: an image that this model does not make, or a stream that cannot be read; the reason only.
        """
        head = images[0].head
        self._check(images)
        symbols = self.prior.decode([image.streams[0] for image in images], self.model.network.grid(head.size))
        return torch.from_numpy(symbols.reshape(len(images), -1, symbols.shape[-1]))

    def decode(self, images: Sequence[Coded]) -> list[NDArray[Any]]:
        """Pixels of each coded image, (C, H, W), in the stored values of the originals.

        Raises:
            FormatError: as `read_symbols`.
        """
        found: dict[int, NDArray[Any]] = {}
        for head in dict.fromkeys(image.head for image in images):
            alike = [k for k, image in enumerate(images) if image.head == head]
            most = max(1, min(BATCH, VALUES // (head.channels * head.height * head.width)))
            for part in (alike[k : k + most] for k in range(0, len(alike), most)):
                found |= zip(part, self._decode([images[k] for k in part]), strict=True)
        return [found[k] for k in range(len(images))]

    def _decode(self, images: Sequence[Coded]) -> NDArray[Any]:
        head, network = images[0].head, self.model.network
        symbols, grid = self.read_symbols(images), network.grid(head.size)
        spec = dataclasses.replace(self.model.recipe.image, maximum=head.maximum)
        if head.lossless:
            streams = [image.streams[1] for image in images]
            return self._exact().decode(streams, symbols, grid, head.size, int(head.maximum), spec.dtype)
        with torch.no_grad():
            mean = network.decode(self.symbols.code(symbols.to(self.model.device)), grid, head.size).mean
        pixels = mean.float().cpu().numpy()
        values = pixels if head.maximum == 1 else np.rint(np.clip(pixels, 0, 1) * head.maximum)
        stored: NDArray[Any] = values.astype(spec.dtype)
        return stored

    def with_lossless(self, exact: bytes) -> Codec:
        """The same with the tables that `learn_exact` made."""
        codec = copy.copy(self)
        codec.lossless = Lossless(self.model.network, self.symbols, exact)
        return codec

    def _exact(self) -> Lossless:
        if self.lossless is None:
            raise FormatError("this model has not learnt the tables that lossless files need; restore them from a copy")
        return self.lossless

    def _check(self, images: Sequence[Coded]) -> None:
        """Refuse what the model cannot have made, before memory is taken for it."""
        network, spec = self.model.network, self.model.recipe.image
        for image in images:
            head = image.head
            other = network.fixed_size and head.size != (spec.height, spec.width)
            if head.channels != spec.channels or other:
                shape = f"{head.height}×{head.width} with {head.channels} channels"
                raise FormatError(f"its header claims {shape}, which this model does not make")
            grid = network.grid(head.size)
            claims = [grid[0] * grid[1] * len(self.symbols.alphabet)]
            claims += [head.height * head.width * head.channels] if head.lossless else []
            if any(claim > DENSEST * (len(stream) + 1) for claim, stream in zip(claims, image.streams, strict=False)):
                raise FormatError(f"its header claims {head.height}×{head.width} pixels, more than its bytes can hold")


def kept_codec(model: Model) -> Codec | None:
    """The codec of the tables that are kept with the model, if it has learnt them."""
    if model.folder is None or TABLES not in model.recipe.files:
        return None
    exact = store.read_file(model.recipe, model.folder, EXACT) if EXACT in model.recipe.files else None
    return Codec(model, store.read_file(model.recipe, model.folder, TABLES), exact)


def learn_exact(codec: Codec, images: ImageSet, steps: int = 1500) -> bytes:
    """The tables that pixels are written with where none may be lost; as safetensors.

    Raises:
        ApercuError: there are no images.
    """
    if len(images) == 0:
        raise ApercuError("there are no images here to learn the tables from")
    order = np.random.default_rng(0).permutation(len(images))[:LEARNT_PICTURES]
    few = int((np.cumsum(images.sizes[order].prod(1)) <= LEARNT_PIXELS).sum())
    images = images.subset(order[: max(1, few)])
    decoding, pairs = Decoding(codec.model.network, codec.symbols), []
    for batch, output in codec.model.outputs(images, decode=False):
        size = (batch.x.shape[2], batch.x.shape[3])
        picture = decoding.picture(codec.symbols.of(output.code), output.code.grid, size)
        pairs.append((images.read(batch.index.cpu().numpy()).astype(np.int64), picture))
    return learn_lossless(pairs, int(images.spec.maximum), steps)


def learn_tables(model: Model, images: ImageSet, steps: int = 600) -> bytes:
    """The tables of a model: the prior of its symbols, and the steps of a code that has none; as safetensors.

    Raises:
        ApercuError: there are no images, or the code says nothing.
    """
    if len(images) == 0:
        raise ApercuError("there are no images here to learn the tables from")
    list(model.outputs(images.subset([0])))  # says why, where a model draws no images
    images = images.subset(np.random.default_rng(0).permutation(len(images))[:LEARNT_FROM])
    symbols = chosen(model.network) or learn_rounding(model, images)
    if max(symbols.alphabet) == 1:
        raise ApercuError(
            "all of these images get the same code; learn the tables from more images with --learn IMAGES, "
            "or train the model longer"
        )
    codes = []
    for _, output in model.outputs(images, decode=False):
        codes += list(symbols.of(output.code).cpu().numpy().reshape(len(output.code.z), *output.code.grid, -1))
    arrays = {f"prior.{name}": array for name, array in learn(codes, symbols.alphabet, steps).tensors().items()}
    if isinstance(symbols, Rounded):
        arrays |= {"round.step": symbols.step, "round.low": symbols.low, "round.count": symbols.count}
    return save_arrays(arrays)


def _hash_weights(model: Model) -> str:
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.network.state_dict().items()}
    return hashlib.sha256(save_tensors(tensors)).hexdigest()
