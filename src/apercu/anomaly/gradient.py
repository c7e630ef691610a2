"""Dissimilarity of gradient magnitudes at several scales: edges that appear or vanish, whatever the brightness.

    map(x) = mean over scales of g_σ * (1 − (2·m·m̂ + c) / (m² + m̂² + c)),  m = ‖∇x‖, m̂ = ‖∇x̂‖

Xue et al., "Gradient magnitude similarity deviation" (2014); at several scales for anomalies as in Zavrtanik, Kristan
and Skočaj, "Reconstruction by inpainting for visual anomaly detection" (2021).
"""

from __future__ import annotations

from torch import Tensor

from apercu.anomaly._drawn import drawn, lacks_pixels
from apercu.anomaly._scales import gradient_map
from apercu.anomaly.base import MapScore
from apercu.api import Model

__all__ = ["Gradient"]


class Gradient(MapScore):
    """1 − similarity of gradient magnitudes, the mean over up to four scales."""

    @classmethod
    def lacks(cls, model: Model) -> str:
        """A decoder of pixels."""
        return lacks_pixels(model)

    def map(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, H, W)."""
        return gradient_map(x, drawn(self.model, x))
