"""What a model marks that learnt, from synthetic defects, to tell the pixels of a defect from those of a good part.

    map(x) = ln q / (1 − q),  q = g_σ * p(pixel belongs to a defect | z)

After Zavrtanik, Kristan and Skočaj, "DRÆM: a discriminatively trained reconstruction embedding for surface anomaly
detection" (2021).
"""

from __future__ import annotations

import torch
from torch import Tensor

from apercu.anomaly._drawn import reach, smooth
from apercu.anomaly._stages import encoded
from apercu.anomaly.base import MapScore
from apercu.api import Model

__all__ = ["Marked"]

SURE = 1e-6


class Marked(MapScore):
    """Log-odds that a place belongs to a defect."""

    @classmethod
    def lacks(cls, model: Model) -> str:
        """A head that has learnt to mark."""
        return "" if "mark" in model.network.heads else "the model has not learnt to mark defects: --task anomaly"

    @torch.no_grad()
    def map(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, H, W)."""
        network = self.model.network.eval()
        marks: Tensor = network.heads["mark"](encoded(self.model, x)[0])
        odds = smooth(marks[:, : x.shape[2], : x.shape[3]].sigmoid(), reach(x))
        return torch.logit(odds, SURE)
