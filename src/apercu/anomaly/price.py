"""The model's own price: all terms of its objective but the label's, the negative ELBO of a variational model.

    s(x) = Σ_k w_k · price_k(x) / D,  D numbers in the image;  map: −ln p of every pixel

An and Cho, "Variational autoencoder based anomaly detection using reconstruction probability" (2015).
"""

from __future__ import annotations

import torch
from torch import Tensor

from apercu.anomaly._drawn import lacks_pixels, reach, smooth
from apercu.anomaly._once import once
from apercu.anomaly.base import Score
from apercu.api import Model
from apercu.types import Batch, Output

__all__ = ["Price"]


@once
@torch.no_grad()
def priced(model: Model, x: Tensor) -> tuple[Tensor, Output]:
    """All terms but the label's, together, (B,), and what they were read from."""
    nothing = torch.full((len(x),), -1, device=x.device)
    network = model.network.eval()
    prices, output = network.price(Batch(x, nothing, nothing), noise=False)
    return network.objective.unlabelled(prices).detach(), output


class Price(Score):
    """Nats for each number of the image."""

    def score(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B,)."""
        return priced(self.model, x)[0] / x[0].numel()

    def map(self, x: Tensor) -> Tensor | None:
        """−ln p of each pixel, smoothed, (B, C, H, W) → (B, H, W); None where the model prices features."""
        pixels = None if lacks_pixels(self.model) else priced(self.model, x)[1].pixels
        return None if pixels is None else smooth(pixels.each(x).detach().mean(1), reach(x))
