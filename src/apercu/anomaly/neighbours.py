"""Distance of the code from the nearest normal ones.

    s(x) = mean of ‖z − z_k‖ over the five nearest codes z_k of normal images

Ramaswamy, Rastogi and Shim, "Efficient algorithms for mining outliers from large data sets" (2000).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from apercu.anomaly._codes import codes_of, normal_codes
from apercu.anomaly.base import Arrays, Score
from apercu.data.images import ImageSet

__all__ = ["Neighbours"]

NEAREST = 5


class Neighbours(Score):
    """The mean distance to the five nearest codes."""

    def fit(self, normal: ImageSet) -> None:
        """Keep their codes."""
        self._keep(normal_codes(self, normal))

    def _keep(self, codes: NDArray[np.float32]) -> None:
        from sklearn.neighbors import NearestNeighbors

        self.codes = codes
        self.search = NearestNeighbors(n_neighbors=min(NEAREST, len(codes))).fit(codes)

    def score(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B,)."""
        distances = self.search.kneighbors(codes_of(self, x))[0]
        return torch.from_numpy(distances.mean(1)).float()

    def arrays(self) -> Arrays:
        """The codes, (n, K)."""
        return {"codes": self.codes}

    def restore(self, arrays: Arrays) -> None:
        """Take them back."""
        self._keep(arrays["codes"])
