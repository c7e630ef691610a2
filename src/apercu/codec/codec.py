"""Images to bytes and back: the model's code as symbols, under the prior that was learnt of them.

x ──► encoder ──► symbols ──► range coder ──► bytes ──► symbols ──► decoder ──► x̂
                              └── prior: whole numbers, kept with the model ──┘
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays

from apercu import store
from apercu.api import BATCH, VALUES, Model
from apercu.bottlenecks._hyper import Hyper
from apercu.bottlenecks.rated import Rated
from apercu.codec.coding import DENSEST, Integers
from apercu.codec.container import FINGERPRINT, Coded, Head
from apercu.codec.contexts import Contexts
from apercu.codec.lossless import Lossless
from apercu.codec.prior import Prior
from apercu.codec.quality import EIGHTHS, at, check_point, point_of
from apercu.codec.scales import Conditional, Scales, Side
from apercu.codec.symbols import Graded, Rounded, Symbols, chosen
from apercu.codec.tiles import Tiled
from apercu.data.batches import in_order
from apercu.data.images import ImageSet
from apercu.engine import fast_bf16
from apercu.errors import ApercuError, FormatError
from apercu.types import Grid

WHITE = 255
"""White of the images whose levels half precision can tell apart."""
MANY, SMALL = 1000, 1_000_000
"""Images that are coded at a time, at most, while they have so many numbers together."""
TABLES, EXACT = "compress.safetensors", "lossless.safetensors"


def together(dimensions: int) -> int:
    """How many images of so many numbers are coded at a time: many small ones, since streams are coded in step, and few
    large ones, so that they do not fill memory."""
    return max(1, min(MANY, SMALL // dimensions), min(BATCH, VALUES // dimensions))


class Writer(Protocol):
    """Symbols to streams and back, at an operating point (`quality.py`)."""

    def encode(self, symbols: Integers, point: int = 0) -> list[bytes]:
        """The stream of each image, from symbols (B, h, w, S)."""

    def decode(self, streams: Sequence[bytes], grid: Grid, point: int = 0) -> Integers:
        """Symbols (B, h, w, S) from the stream of each image.

        Raises:
            FormatError: a stream that was not written so.
        """


class Codec:
    """What turns the images of one model into bytes, and bytes into images."""

    def __init__(self, model: Model, tables: bytes, exact: bytes | None = None, tile: int = 0) -> None:
        """Take the tables that `learn_tables` made for this model, and those of `learn_exact`.

        `tile`: compute by tiles of so many pixels a side, 0 for whole images.

        Raises:
            FormatError: the tables were made for another model, or are damaged.
            ApercuError: the model cannot be cut into tiles.
        """
        self.model = model
        try:
            self.symbols, self.writer = _read(model, load_arrays(tables))
        except (SafetensorError, TypeError, KeyError) as error:
            raise FormatError(f"{TABLES} does not hold the tables of this model; learn them again") from error
        self.lossless = None if exact is None else Lossless(model.network, self.symbols, exact)
        self.tiled = Tiled(model.network, self.symbols, tile) if tile else None
        both = model.fingerprint + hashlib.sha256(tables).hexdigest()
        self.fingerprint = hashlib.sha256(both.encode()).digest()[:FINGERPRINT]

    def encode(
        self, images: ImageSet, lossless: bool = False, quality: float | None = None
    ) -> Iterator[list[tuple[int, Coded]]]:
        """Every image with its position, in batches of one size each; `lossless`: so that every pixel comes back;
        `quality`: for a model that has several, by default the middle one.

        Raises:
            ApercuError: floating-point images, of which only an approximation can be kept; or no such quality.
        """
        spec, network = images.spec, self.model.network
        point = point_of(network, quality)
        if lossless and spec.maximum == 1:
            raise ApercuError("floating-point images cannot be kept without loss; store them as 16-bit integers first")
        network.eval()
        for batch in in_order(images, together(spec.dimensions), self.model.device):
            height, width = batch.x.shape[2:]
            head = Head(height, width, spec.channels, spec.maximum, quality=point, lossless=lossless)
            symbols, grid = self._symbols(batch.x, head)
            index = batch.index.cpu().numpy()
            laid = symbols.numpy().reshape(len(symbols), *grid, -1)
            streams = [self.writer.encode(laid, point)]
            if lossless:
                pixels, usual = images.read(index), point / EIGHTHS
                streams.append(self._exact().encode(pixels, symbols, grid, int(spec.maximum), usual))
            yield [(k, Coded(head, tuple(each))) for k, *each in zip(index.tolist(), *streams, strict=True)]

    def _symbols(self, x: torch.Tensor, head: Head) -> tuple[torch.Tensor, Grid]:
        """Symbols (B, N, S) of pixels (B, C, H, W) that such a head describes, and their grid."""
        if self.tiled is not None:
            return self.tiled.encode(x, head.quality)
        with torch.no_grad(), at(self.model.network, head.quality), self._fast(head.maximum):
            code = self.model.network.encode(x)
        return self.symbols.of(code).cpu(), code.grid

    def read_symbols(self, images: Sequence[Coded]) -> torch.Tensor:
        """The symbols of coded images of one size and quality, (B, N, S).

        Raises:
            FormatError: an image that this model does not make, or a stream that cannot be read; the reason only.
        """
        head = images[0].head
        self._check(images)
        streams = [image.streams[0] for image in images]
        symbols = self.writer.decode(streams, self.model.network.grid(head.size), head.quality)
        return torch.from_numpy(symbols.reshape(len(images), -1, symbols.shape[-1]))

    def decode(self, images: Sequence[Coded]) -> list[NDArray[Any]]:
        """Pixels of each coded image, (C, H, W), in the stored values of the originals.

        Raises:
            FormatError: as `read_symbols`.
        """
        found: dict[int, NDArray[Any]] = {}
        for head in dict.fromkeys(image.head for image in images):
            alike = [k for k, image in enumerate(images) if image.head == head]
            most = together(head.channels * head.height * head.width)
            for part in (alike[k : k + most] for k in range(0, len(alike), most)):
                found |= zip(part, self._decode([images[k] for k in part]), strict=True)
        return [found[k] for k in range(len(images))]

    def _decode(self, images: Sequence[Coded]) -> NDArray[Any]:
        head, network = images[0].head, self.model.network
        symbols, grid = self.read_symbols(images), network.grid(head.size)
        spec, quality = dataclasses.replace(self.model.recipe.image, maximum=head.maximum), head.quality / EIGHTHS
        if head.lossless:
            streams = [image.streams[1] for image in images]
            return self._exact().decode(streams, symbols, grid, head.size, int(head.maximum), spec.dtype, quality)
        if self.tiled is not None:
            mean = self.tiled.decode(symbols, grid, head.size, head.quality)
        else:
            with torch.no_grad():
                z = self.symbols.code(symbols.to(self.model.device), quality)
                with self._fast(head.maximum):
                    mean = network.decode(z, grid, head.size).mean
        pixels = mean.float().cpu().numpy()
        values = pixels if head.maximum == 1 else np.rint(np.clip(pixels, 0, 1) * head.maximum)
        stored: NDArray[Any] = values.astype(spec.dtype)
        return stored

    def _fast(self, maximum: float) -> torch.autocast:
        """Half precision for 8-bit images, where the machine is faster in it: nothing of it enters the symbols' tables,
        so that files are read alike, and a picture differs by a level or two here and there."""
        device = self.model.device
        return torch.autocast(device, torch.bfloat16, enabled=maximum == WHITE and fast_bf16(device))

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
            check_point(network, head.quality)
            grid = network.grid(head.size)
            claims = [grid[0] * grid[1] * len(self.symbols.alphabet)]
            claims += [head.height * head.width * head.channels] if head.lossless else []
            if any(claim > DENSEST * (len(stream) + 1) for claim, stream in zip(claims, image.streams, strict=False)):
                raise FormatError(f"its header claims {head.height}×{head.width} pixels, more than its bytes can hold")


def kept_codec(model: Model, tile: int = 0) -> Codec | None:
    """The codec of the tables that are kept with the model, if it has learnt them."""
    if model.folder is None or TABLES not in model.recipe.files:
        return None
    exact = store.read_file(model.recipe, model.folder, EXACT) if EXACT in model.recipe.files else None
    return Codec(model, store.read_file(model.recipe, model.folder, TABLES), exact, tile)


def reading_codec(model: Model, tile: int = 0) -> Codec:
    """The same, to read what it wrote.

    Raises:
        ApercuError: it never wrote anything.
    """
    codec = kept_codec(model, tile)
    if codec is None:
        raise ApercuError("this model has compressed nothing yet, so it wrote none of this; name another MODEL")
    return codec


def _read(model: Model, arrays: Mapping[str, NDArray[Any]]) -> tuple[Symbols, Writer]:
    """Symbols and how they are written, from the tables of a model.

    Raises:
        FormatError: they belong to another model.
        KeyError, TypeError: some are missing, or are unknown.
    """

    def named(group: str) -> dict[str, NDArray[Any]]:
        return {name.removeprefix(group): array for name, array in arrays.items() if name.startswith(group)}

    bottleneck = model.network.bottleneck
    if isinstance(bottleneck, Rated) and (context := named("context.")):
        return Graded(bottleneck, **named("graded.")), Contexts.read(context, bottleneck.reach)
    prior = Prior(**named("prior."))
    written = prior.layout.alphabet
    symbols: Symbols
    if isinstance(bottleneck, Rated):
        symbols = Graded(bottleneck, **named("graded."))
        if bottleneck.hyper is not None and written == bottleneck.hyper.alphabet:
            scales = Scales.read(named("scales."))
            return symbols, Conditional(scales, prior, side_of(bottleneck.hyper, model.device), bottleneck.reach)
    else:
        symbols = chosen(model.network) or Rounded(**named("round."))
    if written != symbols.alphabet:
        raise FormatError(f"{TABLES} belongs to another model; learn the tables again")
    return symbols, prior


def side_of(hyper: Hyper, device: str) -> Side:
    """What makes a hyperprior's own symbols of those of a code."""

    def side(steps: Integers) -> Integers:
        with torch.no_grad():
            u = torch.from_numpy(steps).float().flatten(1, 2).to(device)
            h: Integers = hyper.symbols(u, (steps.shape[1], steps.shape[2])).cpu().numpy()
        return h

    return side
