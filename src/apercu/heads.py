"""What is read off a code: the label head."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from apercu.blocks import to_map
from apercu.types import Code

CELLS = 4


def pooled(code: Code, tokens: Tensor | None = None) -> Tensor:
    """One vector per image whatever its size: the code averaged over at most 4×4 cells of its grid.

    (B, N, D) → (B, min(h, 4)·min(w, 4)·D). A vector code is returned as it is.
    """
    tokens = code.mean if tokens is None else tokens
    if tokens.shape[1] == 1:
        return tokens.flatten(1)
    height, width = code.grid
    cells = F.adaptive_avg_pool2d(to_map(tokens, code.grid), (min(height, CELLS), min(width, CELLS)))
    return cells.flatten(1)


def pooled_size(dim: int, grid: tuple[int, int]) -> int:
    """Length of the vector that `pooled` returns for a code of this grid."""
    return dim * min(grid[0], CELLS) * min(grid[1], CELLS)


class LabelHead(nn.Module):
    """Logits of the classes from the pooled code: dense, ReLU, dense (128-256-10 in the fifth article)."""

    def __init__(self, size: int, classes: int, hidden: int = 256) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(size, hidden), nn.ReLU(), nn.Linear(hidden, classes))

    def forward(self, code: Code) -> Tensor:
        """Code → (B, classes); reads z, so that training sees the noise of the posterior."""
        logits: Tensor = self.net(pooled(code, code.z))
        return logits.float()
