"""Every pixel exactly: the decoder's picture, rounded so that any machine rounds alike, and the pixels given it.

A network in floating point gives slightly different numbers elsewhere, and one of them that is rounded the other way
would spoil all that follows. So the decoder runs in double precision, whose errors are far smaller than `MARGIN` of a
level, and the few pixels that lie nearer to the middle between two levels than that are listed, with the side they fell
on. A digest of the original says whether all went well.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import fields

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays
from torch import Tensor

from apercu.codec.coding import Decoder, Encoder, Integers, weigh
from apercu.codec.learn_pixels import learn_pixels
from apercu.codec.pixels import WHITE, Net, PixelCoder
from apercu.codec.symbols import Symbols
from apercu.data.survey import digest
from apercu.errors import FormatError
from apercu.model import Autoencoder
from apercu.types import Grid

LEVELS, MARGIN = 1 << 12, 2.0**-16
"""Levels of the decoder's picture, and how near to the middle between two of them a pixel is listed."""
DIGEST = 4
_any = weigh(np.array([1 << 20, 1 << 14]))
_byte = weigh(np.ones(256, np.int64))


class Lossless:
    """Writes and reads the pixels of images whose symbols are known."""

    def __init__(self, network: Autoencoder, symbols: Symbols, tables: bytes) -> None:
        """Take the tables that `learn_lossless` made.

        Raises:
            FormatError: they are damaged.
        """
        self._decoder = Decoding(network, symbols)
        try:
            arrays = load_arrays(tables)
            count = len(arrays) // len(fields(Net))
            nets = [
                Net(**{field.name: arrays[f"{plane}.{field.name}"] for field in fields(Net)}) for plane in range(count)
            ]
        except (SafetensorError, KeyError) as error:
            raise FormatError("the tables for lossless files are damaged; restore them from a copy") from error
        self._pixels = PixelCoder(nets)

    def encode(
        self, pixels: NDArray[np.generic], symbols: Tensor, grid: Grid, maximum: int, quality: float = 0
    ) -> list[bytes]:
        """The residual stream of each image, from pixels (B, C, H, W) of 0 … maximum and symbols (B, N, S)."""
        levels = self._decoder(symbols, grid, (pixels.shape[2], pixels.shape[3]), quality)
        coders = [Encoder() for _ in pixels]
        for coder, image in zip(coders, levels, strict=True):
            listed = np.flatnonzero(_near(image))
            _write_sides(coder, listed, _rounded(image).ravel()[listed] - np.floor(image).ravel()[listed] > 0)
        self._pixels.encode(pixels.astype(np.int64), _picture(_rounded(levels)), maximum, coders)
        return [digest(image)[:DIGEST] + coder.finish(image.size) for image, coder in zip(pixels, coders, strict=True)]

    def decode(
        self,
        streams: Sequence[bytes],
        symbols: Tensor,
        grid: Grid,
        size: Grid,
        maximum: int,
        dtype: str,
        quality: float = 0,
    ) -> NDArray[np.generic]:
        """Pixels (B, C, H, W) from the residual stream of each image and symbols (B, N, S).

        Raises:
            FormatError: they are not the pixels that were written; the message is the reason only.
        """
        levels = self._decoder(symbols, grid, size, quality)
        coders = [Decoder(stream[DIGEST:]) for stream in streams]
        rounded = _rounded(levels)
        for coder, image, own in zip(coders, levels, rounded, strict=True):
            places, up = _read_sides(coder, image.size)
            own.reshape(-1)[places] = np.floor(image.ravel()[places]) + up
        pixels = self._pixels.decode(_picture(rounded), maximum, coders)
        stored = pixels.astype(dtype)
        if any(digest(image)[:DIGEST] != stream[:DIGEST] for image, stream in zip(stored, streams, strict=True)):
            raise FormatError(
                "its pixels do not come back as they were; decompress it with the very copy of the MODEL that "
                "compressed it, or on a machine of the same kind"
            )
        return stored


class Decoding:
    """The decoder of a network in double precision, on the processor."""

    def __init__(self, network: Autoencoder, symbols: Symbols) -> None:
        self._network = copy.deepcopy(network).cpu().double().eval()
        self._symbols = symbols.on(self._network)

    def __call__(self, symbols: Tensor, grid: Grid, size: Grid, quality: float = 0) -> NDArray[np.float64]:
        """The picture of symbols (B, N, S), (B, C, H, W), in levels: 0 is black, `LEVELS` white."""
        with torch.no_grad():
            raw = self._network.decoder(self._symbols.code(symbols.cpu(), quality).double(), grid)
        if raw.dtype != torch.float64:
            raise TypeError("the decoder left double precision")
        # Not through the likelihood, which computes in single precision: its mean is this where there is one.
        shown = raw[:, : self._network.image.channels, : size[0], : size[1]].sigmoid()
        levels: NDArray[np.float64] = shown.numpy() * LEVELS
        return levels

    def picture(self, symbols: Tensor, grid: Grid, size: Grid, quality: float = 0) -> Integers:
        """The same as pixels are coded with, of 0 … 2¹⁶."""
        return _picture(_rounded(self(symbols, grid, size, quality)))


def learn_lossless(images: Sequence[tuple[Integers, Integers]], maximum: int, steps: int) -> bytes:
    """The tables that pixels are written with, from pixels and pictures, each (B, C, H, W); as safetensors."""
    nets = learn_pixels(images, maximum, steps=steps)
    return save_arrays({f"{k}.{f.name}": getattr(net, f.name) for k, net in enumerate(nets) for f in fields(Net)})


def _rounded(levels: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.floor(levels + 0.5)


def _near(levels: NDArray[np.float64]) -> NDArray[np.bool_]:
    near: NDArray[np.bool_] = np.abs(levels - np.floor(levels) - 0.5) < MARGIN
    return near


def _picture(levels: NDArray[np.float64]) -> Integers:
    return levels.astype(np.int64) * (WHITE // LEVELS)


def _write_sides(coder: Encoder, places: Integers, up: NDArray[np.bool_]) -> None:
    """List pixels and whether they were rounded up: whether there are any, how many, and five bytes for each."""
    coder.encode(np.array([int(len(places) > 0)]), _any)
    if len(places):
        numbers = [len(places), *places.tolist()]
        listed = b"".join(number.to_bytes(4, "little") for number in numbers) + up.astype(np.uint8).tobytes()
        coder.encode(np.frombuffer(listed, np.uint8).astype(np.int64), _byte)


def _read_sides(coder: Decoder, pixels: int) -> tuple[Integers, NDArray[np.bool_]]:
    """The places and sides that `_write_sides` listed.

    Raises:
        FormatError: they do not lie in the image.
    """
    if not coder.decode(_any, 1)[0]:
        return np.empty(0, np.int64), np.empty(0, np.bool_)
    count = _number(coder, 1)[0]
    if count > pixels:
        raise FormatError("its list of pixels makes no sense")
    places = _number(coder, count)
    if places.max() >= pixels:
        raise FormatError("its list of pixels makes no sense")
    return places, coder.decode(_byte, count) > 0


def _number(coder: Decoder, count: int) -> Integers:
    read = coder.decode(_byte, 4 * count).astype(np.uint8).tobytes()
    return np.frombuffer(read, "<u4").astype(np.int64)
