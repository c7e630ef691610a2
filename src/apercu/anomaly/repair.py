"""What a model that learnt to repair would mend: it draws the part without the defect, and the difference marks it.

    map(x) = d(x) / d̄ + e(x) / ē

d: |x − x̂| and e: dissimilarity of gradient magnitudes, each at several scales; d̄, ē: their means over normal images.
After Zavrtanik, Kristan and Skočaj, "DRÆM: a discriminatively trained reconstruction embedding for surface anomaly
detection" (2021), without its second network.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from apercu.anomaly._drawn import drawn, lacks_pixels
from apercu.anomaly._scales import gradient_map, pixel_map
from apercu.anomaly.base import Arrays, MapScore, as_array, as_tensor, some
from apercu.api import Model
from apercu.data.images import ImageSet

__all__ = ["Repair"]

ENOUGH = 200


class Repair(MapScore):
    """The difference that repairing makes, in brightness and in edges, which weigh the same."""

    def __init__(self, model: Model, seed: int = 0) -> None:
        super().__init__(model, seed)
        self.usual = torch.ones(2, device=model.device)

    @classmethod
    def lacks(cls, model: Model) -> str:
        """A decoder of pixels that has learnt to repair."""
        return lacks_pixels(model) or (
            "" if model.network.corruption is not None else "the model has not learnt to repair: corruption=defects"
        )

    def fit(self, normal: ImageSet) -> None:
        """How much repairing changes an image that needs none."""
        maps = [torch.stack(self._both(x), 1).mean((2, 3)) for x in self.batches(some(normal, ENOUGH, self.seed))]
        self.usual = torch.cat(maps).mean(0).clamp_min(1e-6)

    def _both(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = drawn(self.model, x)
        return pixel_map(x, y), gradient_map(x, y)

    def map(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, H, W)."""
        pixels, edges = self._both(x)
        return pixels / self.usual[0] + edges / self.usual[1]

    def arrays(self) -> Arrays:
        """The two means, (2,)."""
        return {"usual": as_array(self.usual)}

    def restore(self, arrays: Arrays) -> None:
        """Take them back."""
        self.usual = as_tensor(arrays["usual"].astype(np.float32), self.model)
