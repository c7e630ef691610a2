"""Large images by overlapping tiles, without seams: what a tile's own numbers depend on is computed with it.

A convolutional network sees no farther than its kernels reach. Every tile is cut with a margin as wide as that, on the
grid of the code, and the margin is thrown away. All is computed in double precision, whose last bits, which depend on
the size of a tile, are far smaller than what rounds to another symbol or pixel: tiles of any size give the same.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from apercu.attention import Attention
from apercu.blocks import Doubling
from apercu.codec.quality import EIGHTHS, at
from apercu.codec.symbols import Symbols
from apercu.errors import ApercuError
from apercu.model import Autoencoder
from apercu.types import Grid


@dataclass(frozen=True)
class Window:
    """Cells first … last of a side of the grid, and the cells around them that must be seen."""

    first: int
    last: int
    start: int
    end: int


class Tiled:
    """The two ends of a network, a tile of `side` pixels at a time."""

    def __init__(self, network: Autoencoder, symbols: Symbols, side: int) -> None:
        """Make the copy of the network that tiles are computed with.

        Raises:
            ApercuError: the network sees the whole image at once.
        """
        looks = any(isinstance(module, Attention) for module in network.modules())
        if network.fixed_size or network.backbone is not None or looks:
            raise ApercuError(
                "this model sees an image as a whole, so it cannot be cut into tiles; "
                "train a convolutional one: --preset codec or vqvae"
            )
        device = next(network.parameters()).device
        self._device = torch.device("cpu") if device.type == "mps" else device  # which has no double precision
        self._network = copy.deepcopy(network).to(self._device).double().eval()
        self._symbols = symbols.on(self._network)
        self._stride = network.encoder.stride
        self._cells = max(1, side // self._stride)
        self._seen = -(-_reach_of_encoder(network.encoder) // self._stride)
        self._shown = -(-_reach_of_decoder(network.decoder, self._stride) // self._stride)

    @torch.no_grad()
    def encode(self, x: Tensor, point: int) -> tuple[Tensor, Grid]:
        """Symbols (B, N, S) of (B, C, H, W), and their grid; on the processor."""
        grid, stride = self._network.grid((x.shape[2], x.shape[3])), self._stride
        alphabet = len(self._symbols.alphabet)
        found = torch.empty((len(x), *grid, alphabet), dtype=torch.int64)
        for i, j in self._windows(grid, self._seen):
            part = x[:, :, i.start * stride : i.end * stride, j.start * stride : j.end * stride]
            with at(self._network, point):
                code = self._network.encode(part.to(self._device).double())
            own = self._symbols.of(code).cpu().reshape(len(x), *code.grid, -1)
            found[:, i.first : i.last, j.first : j.last] = own[
                :, i.first - i.start : i.last - i.start, j.first - j.start : j.last - j.start
            ]
        return found.flatten(1, 2), grid

    @torch.no_grad()
    def decode(self, symbols: Tensor, grid: Grid, size: tuple[int, int], point: int) -> Tensor:
        """The picture (B, C, H, W) of symbols (B, N, S), on the processor."""
        stride, spec = self._stride, self._network.image
        whole = torch.empty(len(symbols), spec.channels, grid[0] * stride, grid[1] * stride)
        laid = symbols.reshape(len(symbols), *grid, -1)
        for i, j in self._windows(grid, self._shown):
            part = laid[:, i.start : i.end, j.start : j.end].to(self._device)
            cells = (i.end - i.start, j.end - j.start)
            z = self._symbols.code(part.flatten(1, 2), point / EIGHTHS).double()
            mean = self._network.decode(z, cells, (cells[0] * stride, cells[1] * stride)).mean
            top, left = (i.first - i.start) * stride, (j.first - j.start) * stride
            height, width = (i.last - i.first) * stride, (j.last - j.first) * stride
            rows, columns = slice(i.first * stride, i.last * stride), slice(j.first * stride, j.last * stride)
            whole[:, :, rows, columns] = mean[:, :, top : top + height, left : left + width].float().cpu()
        return whole[:, :, : size[0], : size[1]]

    def _windows(self, grid: Grid, margin: int) -> Iterator[tuple[Window, Window]]:
        for i in self._along(grid[0], margin):
            for j in self._along(grid[1], margin):
                yield i, j

    def _along(self, cells: int, margin: int) -> Iterator[Window]:
        for first in range(0, cells, self._cells):
            last = min(cells, first + self._cells)
            yield Window(first, last, max(0, first - margin), min(cells, last + margin))


def _reach_of_encoder(encoder: nn.Module) -> int:
    """How many pixels away from its cell a number of the code sees."""
    reach, jump = 0, 1
    for module in encoder.modules():
        if isinstance(module, nn.Conv2d):
            reach += _arm(module) * jump
            jump *= module.stride[0]
    return reach


def _reach_of_decoder(decoder: nn.Module, stride: int) -> int:
    """How many pixels beyond its cell a number of the code is seen."""
    reach, jump = 0, stride
    doublings = {id(module.phases) for module in decoder.modules() if isinstance(module, Doubling)}
    for module in decoder.modules():
        if isinstance(module, nn.Conv2d):
            reach += _arm(module) * jump
            jump = jump // 2 if id(module) in doublings else jump
    return reach


def _arm(layer: nn.Conv2d) -> int:
    """How far a kernel reaches to its farther side."""
    before = int(layer.padding[0])
    return max(before, layer.kernel_size[0] - 1 - before)
