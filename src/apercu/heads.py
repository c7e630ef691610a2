"""What is read off a code: the class of an image, and which of its pixels were damaged."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from apercu.blocks import standardised, to_map
from apercu.pyramid import Pyramid
from apercu.types import Code

CELLS = 4
DEEPER = 3
RARE = -4.0  # log-odds at the start: most pixels are whole, and training need not learn that first


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


class ContrastHead(nn.Module):
    """A direction for each image, by which the views of one image are told from those of others: dense, SiLU, dense."""

    def __init__(self, size: int, hidden: int = 128, directions: int = 64) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(size, hidden), nn.SiLU(), nn.Linear(hidden, directions))

    def forward(self, code: Code) -> Tensor:
        """Code → (B, directions), of length 1."""
        return F.normalize(self.net(pooled(code)).float(), dim=1)


class MarkHead(nn.Module):
    """Log-odds that each pixel was damaged, from a code whose cells are `stride` pixels wide.

    Every cell speaks of its pixels, by a pyramid on the map of codes. The discriminative part of Zavrtanik, Kristan and
    Skočaj, "DRÆM" (2021), which reads image and reconstruction; here it reads the code that both are drawn from.
    """

    def __init__(self, dim: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.net = Pyramid([dim], stride**2, DEEPER)
        self.usual = nn.Parameter(torch.tensor(RARE))

    def forward(self, code: Code) -> Tensor:
        """Code → (B, h·stride, w·stride)."""
        answers: Tensor = self.net([standardised(to_map(code.z, code.grid))])
        return self.usual + F.pixel_shuffle(answers, self.stride)[:, 0].float()
