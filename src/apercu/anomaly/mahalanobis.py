"""Mahalanobis distance of the code from the normal ones, in their first principal components.

    s(x) = √((y − μ)ᵀ Σ⁻¹ (y − μ)),  y = U z, Σ shrunk towards a multiple of the identity

Ledoit and Wolf, "A well-conditioned estimator for large-dimensional covariance matrices" (2004). With 128 components or
fewer, U is a rotation, which changes nothing.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from apercu.anomaly._codes import codes_of, normal_codes
from apercu.anomaly.base import Arrays, Score
from apercu.data.images import ImageSet

__all__ = ["Mahalanobis"]

COMPONENTS = 128


class Mahalanobis(Score):
    """The distance in the metric of the normal codes' own spread."""

    def fit(self, normal: ImageSet) -> None:
        """Components, mean, and the inverse of the covariance."""
        from sklearn.covariance import LedoitWolf
        from sklearn.decomposition import PCA

        codes = normal_codes(self, normal)
        pca = PCA(min(COMPONENTS, *codes.shape), random_state=self.seed).fit(codes)
        self.components = pca.components_.astype(np.float32)
        seen = self._seen(codes)
        self.mean = seen.mean(0)
        # A dimension that never changes would make the covariance singular where nothing shrinks it.
        spread = LedoitWolf().fit(seen).covariance_ + 1e-9 * np.eye(seen.shape[1])
        self.precision = np.linalg.inv(spread)

    def _seen(self, codes: NDArray[np.float32]) -> NDArray[np.float64]:
        """(B, K) → (B, R)."""
        seen: NDArray[np.float64] = codes.astype(np.float64) @ self.components.T
        return seen

    def score(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B,)."""
        away = self._seen(codes_of(self, x)) - self.mean
        squared = np.einsum("bi,ij,bj->b", away, self.precision, away)
        return torch.from_numpy(np.sqrt(np.maximum(squared, 0))).float()

    def arrays(self) -> Arrays:
        """U, (R, K), μ, (R,), and Σ⁻¹, (R, R)."""
        return {"components": self.components, "mean": self.mean, "precision": self.precision}

    def restore(self, arrays: Arrays) -> None:
        """Take them back."""
        self.components, self.mean, self.precision = (arrays[k] for k in ("components", "mean", "precision"))
