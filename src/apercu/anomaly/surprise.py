"""Surprise of the symbols: what a learnt prior charges for each of them, given those before it.

    map(x)[i, j] = −Σ_s log₂ P(symbol s at i, j | left, above, earlier),  bits

The prior is that of the codec (`apercu.codec.prior`), learnt from normal images alone. After Wang et al., "Image
anomaly detection using normal data only by latent space resampling" (2020).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from apercu.anomaly._drawn import to_pixels
from apercu.anomaly._stages import encoded
from apercu.anomaly.base import Arrays, MapScore, some
from apercu.api import Model
from apercu.codec.learn import learn
from apercu.codec.prior import Prior
from apercu.codec.symbols import chosen
from apercu.data.images import ImageSet
from apercu.errors import ApercuError

__all__ = ["Surprise"]

MOST, STEPS = 4000, 300


class Surprise(MapScore):
    """Bits of each token."""

    @classmethod
    def lacks(cls, model: Model) -> str:
        """A code of symbols."""
        symbols = chosen(model.network)
        if symbols is None or max(symbols.alphabet) == 1:
            return f"the code of preset {model.recipe.preset} has no symbols"
        return ""

    def fit(self, normal: ImageSet) -> None:
        """Learn the prior of their symbols."""
        symbols = chosen(self.model.network)
        if symbols is None:
            raise ApercuError(self.lacks(self.model))
        codes = [code for x in self.batches(some(normal, MOST, self.seed)) for code in self._symbols(x)]
        self.prior = learn(codes, symbols.alphabet, STEPS, self.seed)

    def _symbols(self, x: Tensor) -> NDArray[np.int64]:
        """(B, C, H, W) → (B, h, w, S)."""
        code = encoded(self.model, x)[0]
        if code.symbols is None:
            raise TypeError("the code of a quantizer has symbols")
        return code.symbols.cpu().numpy().reshape(len(x), *code.grid, -1)

    def map(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, H, W)."""
        bits = self.prior.bits(self._symbols(x)).sum(3)
        return to_pixels(self.model, torch.from_numpy(bits).float().to(x.device), x)

    def arrays(self) -> Arrays:
        """The tables of the prior."""
        return dict(self.prior.tensors())

    def restore(self, arrays: Arrays) -> None:
        """Take them back."""
        self.prior = Prior(**arrays)
