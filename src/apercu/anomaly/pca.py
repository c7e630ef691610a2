"""A trivial baseline: what the principal components of the normal images leave over.

s(x) = ‖(I − U Uᵀ)(t(x) − t̄)‖² / D,  U: 30 components at most, t: the image, reduced to at most 32×32
"""

from __future__ import annotations

import torch
from torch import Tensor

from apercu.anomaly._small import small, small_ones
from apercu.anomaly.base import Arrays, Score, as_array, as_tensor
from apercu.data.images import ImageSet

__all__ = ["PCA"]

COMPONENTS = 30


class PCA(Score):
    """The squared residual of the linear autoencoder."""

    trivial = True

    def fit(self, normal: ImageSet) -> None:
        """Mean and components of the normal images; of few images, half as many components as there are."""
        rows = small_ones(self, normal)
        self.mean = rows.mean(0)
        count = min(COMPONENTS, len(rows) // 2, rows.shape[1] // 2)
        self.components = torch.linalg.svd(rows - self.mean, full_matrices=False).Vh[:count]

    def score(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B,)."""
        away = small(self, x) - self.mean
        left: Tensor = away - away @ self.components.T @ self.components
        return left.square().mean(1)

    def arrays(self) -> Arrays:
        """t̄, (D,), and U, (30, D)."""
        return {"mean": as_array(self.mean), "components": as_array(self.components)}

    def restore(self, arrays: Arrays) -> None:
        """Take them back."""
        self.mean, self.components = (as_tensor(arrays[name], self.model) for name in ("mean", "components"))
