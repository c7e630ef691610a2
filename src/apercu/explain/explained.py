"""What was found for a batch of images, before it is shown or measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from apercu.data.images import ImageSet
from apercu.explain.imagined import Imagined
from apercu.types import Batch


@dataclass(frozen=True)
class Explained:
    """B images of one size, everything in the order of the batch.

    `answers`: what the task classify says of each; `decided`: (B,), numbers of the decision's classes; `after`: what
    the model itself, asked anew, says of the pictures that were imagined; `changed`: whether that is another class,
    (B,); `maps`: the attributions, {method: (B, H, W)}; `areas`: of deletion and insertion, {method: ((B,), (B,))}.
    """

    images: ImageSet
    batch: Batch
    answers: Sequence[dict[str, Any]]
    decided: Tensor
    imagined: Imagined
    after: Sequence[str]
    changed: NDArray[np.bool_]
    maps: dict[str, Tensor]
    areas: dict[str, tuple[Tensor, Tensor]]

    def rows(self, classes: Sequence[str]) -> list[dict[str, Any]]:
        """A record for each image."""
        found = self.imagined
        return [
            {
                "id": answer["id"],
                "label": answer["label"],
                "probability": answer["probability"],
                "aimed": classes[int(found.aimed[i])],
                "becomes": self.after[i],
                "changed": bool(self.changed[i]),
                "distance": float(found.distance[i]),
                "deletion": {name: float(pair[0][i]) for name, pair in self.areas.items()},
                "insertion": {name: float(pair[1][i]) for name, pair in self.areas.items()},
            }
            for i, answer in enumerate(self.answers)
        ]
