"""Images whose codes were kept: what stands in their place when a model is asked, so that it need not look at them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apercu.data.pixels import Pixels


class Recalled(ABC):
    """Pixels of N images, read only where nothing else will do, and what a model made of them before.

    `fingerprint`: of that model; `prices`: (N,) float32, nats without the label, None where they are not known.
    """

    fingerprint: str
    prices: NDArray[np.float32] | None

    @property
    @abstractmethod
    def dtype(self) -> np.dtype[Any]:
        """The type that the pixels are stored in."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def read(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """(B, C, H, W), from where the images came from.

        Raises:
            ApercuError: they are there no more.
        """

    @abstractmethod
    def codes(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """The codes of images of one size: symbols (B, N, S) as integers, else (B, N, D) float32."""

    @abstractmethod
    def thumbnails(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """As `duplicates.thumbnails`, (B, 256)."""


def priced(pixels: Pixels) -> bool:
    """Whether the price of each of these images is known, or can be found out."""
    return not isinstance(pixels, Recalled) or pixels.prices is not None
