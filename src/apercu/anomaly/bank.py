"""Memory bank: how far the features of each place lie from all that normal images have anywhere.

    map(x)[i, j] = min over k of ‖f_ij − m_k‖,  m_k a coreset of the features f of normal images

f joins several depths of the model's own encoder, each channel in units of its spread, each depth with the same weight.
The coreset is greedy: always the feature that is farthest from those chosen (Gonzalez, "Clustering to minimize the
maximum intercluster distance", 1985), as in Roth et al., "Towards total recall in industrial anomaly detection" (2022).
"""

from __future__ import annotations

import torch
from torch import Tensor

from apercu.anomaly._drawn import to_pixels
from apercu.anomaly._stages import features, stages_of
from apercu.anomaly.base import Arrays, MapScore, as_array, as_tensor, some
from apercu.api import Model
from apercu.data.images import ImageSet

__all__ = ["Bank"]

IMAGES, POOL = 1000, 30_000
SHARE, LEAST = 0.1, 200
PROJECTED = 64
AT_ONCE = 4096


class Bank(MapScore):
    """The distance to the nearest feature that is kept."""

    @classmethod
    def lacks(cls, model: Model) -> str:
        """An encoder that makes maps."""
        return "" if stages_of(model) else "its encoder makes no maps of features"

    def fit(self, normal: ImageSet) -> None:
        """Choose what is kept, from a draw of the features of normal images."""
        chosen = some(normal, IMAGES, self.seed)
        each = max(1, POOL // len(chosen))
        draw = torch.Generator().manual_seed(self.seed)
        rows = []
        for x in self.batches(chosen):
            joined = [values.permute(0, 2, 3, 1).flatten(1, 2) for values in features(self.model, x)]
            places = torch.randperm(joined[0].shape[1], generator=draw)[:each].to(x.device)
            rows.append([values[:, places].flatten(0, 1) for values in joined])
        depths = [torch.cat(parts) for parts in zip(*rows, strict=True)]
        # A channel that hardly changes would be blown up to noise: it counts by the mean spread of its depth instead.
        spreads = [depth.std(0, correction=0) for depth in depths]
        self.spread = torch.cat([s.maximum(0.1 * s.mean()).clamp_min(1e-6) * len(s) ** 0.5 for s in spreads])
        pool = torch.cat(depths, 1) / self.spread
        self.kept = pool[coreset(pool, max(LEAST, round(SHARE * len(pool))), draw)]

    def map(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, H, W)."""
        found = torch.cat(features(self.model, x), 1)
        height, width = found.shape[2:]
        rows = found.permute(0, 2, 3, 1).flatten(0, 2) / self.spread
        nearest = torch.cat([torch.cdist(part, self.kept).amin(1) for part in torch.split(rows, AT_ONCE)])
        return to_pixels(self.model, nearest.view(len(x), height, width), x)

    def arrays(self) -> Arrays:
        """Spreads, (F,), and features that are kept, (K, F)."""
        return {"spread": as_array(self.spread), "kept": as_array(self.kept)}

    def restore(self, arrays: Arrays) -> None:
        """Take them back."""
        self.spread, self.kept = (as_tensor(arrays[name], self.model) for name in ("spread", "kept"))


def coreset(pool: Tensor, count: int, draw: torch.Generator) -> Tensor:
    """The rows of at most `count` points that lie close to all, by the greedy 2-approximation, (N, F) → (K,).

    Distances are those of a random projection to at most 64 dimensions (Johnson and Lindenstrauss, 1984). It ends early
    where every point is chosen or the same as one that is.
    """
    if pool.shape[1] > PROJECTED:
        projection = torch.randn(pool.shape[1], PROJECTED, generator=draw).to(pool.device)
        pool = pool @ projection / PROJECTED**0.5
    squares = pool.square().sum(1)
    nearest = torch.full_like(squares, torch.inf)
    chosen = [int(torch.randint(len(pool), (1,), generator=draw))]
    for _ in range(min(count, len(pool)) - 1):
        last = chosen[-1]
        nearest = torch.minimum(nearest, squares + squares[last] - 2 * pool @ pool[last])
        nearest[last] = 0
        farthest = int(nearest.argmax())
        if nearest[farthest] <= 1e-6 * squares.max():
            break
        chosen.append(farthest)
    return torch.tensor(chosen, device=pool.device)
