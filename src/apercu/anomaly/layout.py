"""How far an image lies from its nearest normal image, part by part.

    s(x) = min over k of ‖y(x) − y_k‖,  y = Λ^(−½) U (f(x) − μ) / σ

f joins the features of the encoder's stages, each the mean over a cell of 8×8; μ, σ: mean and spread of each number of
f, U: the first 128 principal components of what is left, with variances Λ. It asks for one image that looks the same
everywhere, where `bank` asks for any place that looks like this one.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from apercu.anomaly._stages import encoded, stages_of
from apercu.anomaly.base import Arrays, Score, as_array, as_tensor, some
from apercu.api import Model
from apercu.data.images import ImageSet

__all__ = ["Layout"]

CELLS, COMPONENTS, MOST = 8, 128, 5000
SAME = 1e-3
"""Nearer than that, two images are the same, but for rounding."""
EXACT = "donot_use_mm_for_euclid_dist"  # by a product, what is near would lie anywhere nearby


class Layout(Score):
    """The distance to the nearest normal image, where every component weighs the same."""

    @classmethod
    def lacks(cls, model: Model) -> str:
        """An encoder that makes maps."""
        return "" if stages_of(model) else "its encoder makes no maps of features"

    def fit(self, normal: ImageSet) -> None:
        """Find the components and keep where normal images lie, at most 5,000 of them; half as many components as
        images at most, for the rest of them would be noise."""
        from sklearn.decomposition import PCA

        rows = torch.cat([self._pooled(x) for x in self.batches(some(normal, MOST, self.seed))])
        self.mean, spread = rows.mean(0), rows.std(0, correction=0)
        self.spread = spread.maximum(0.1 * spread.mean()).clamp_min(1e-6)
        even = ((rows - self.mean) / self.spread).cpu().numpy()
        pca = PCA(max(1, min(COMPONENTS, len(even) // 2, even.shape[1])), random_state=self.seed).fit(even)
        scale = np.sqrt(pca.explained_variance_).clip(1e-6)
        self.components = as_tensor((pca.components_ / scale[:, None]).astype(np.float32), self.model)
        self.kept = self._placed(rows)

    def _pooled(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, F)."""
        maps = (values.float() for values in encoded(self.model, x)[1])
        return torch.cat([F.adaptive_avg_pool2d(values, self._cells(values)).flatten(1) for values in maps], 1)

    def _cells(self, values: Tensor) -> tuple[int, int]:
        """8×8; fewer where maps have fewer, which then is so for every image."""
        if not self.model.network.fixed_size:
            return CELLS, CELLS
        return min(CELLS, values.shape[2]), min(CELLS, values.shape[3])

    def _placed(self, rows: Tensor) -> Tensor:
        """(B, F) → (B, K)."""
        return ((rows - self.mean) / self.spread) @ self.components.T

    def score(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B,)."""
        placed = self._placed(self._pooled(x))
        apart = torch.cdist(placed, self.kept, compute_mode=EXACT).amin(1)
        return torch.where(apart < SAME, 0, apart)

    def arrays(self) -> Arrays:
        """μ and σ, (F,), Λ^(−½) U, (K, F), and normal images, (n, K)."""
        return {name: as_array(getattr(self, name)) for name in ("mean", "spread", "components", "kept")}

    def restore(self, arrays: Arrays) -> None:
        """Take them back."""
        for name in ("mean", "spread", "components", "kept"):
            setattr(self, name, as_tensor(arrays[name], self.model))
