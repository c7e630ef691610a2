"""Vector quantizer with a learnt codebook.

    k(n) = argmin_k ‖f_n − e_k‖²,  z_n = e_k(n),  ∂z/∂f := 1 (straight-through) or λR (rotation)
    costs: commitment Σ_n ‖f_n − sg(e_k(n))‖²; codebook Σ_n ‖sg(f_n) − e_k(n)‖² where it is learnt by gradient

van den Oord, Vinyals and Kavukcuoglu, "Neural discrete representation learning" (2017). With the cosine distance f and
e are scaled to length 1 (Yu et al., "Vector-quantized image modeling with improved VQGAN", 2022). The rotation is in
`_codebook.rotated`.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from apercu.bottlenecks._codebook import Codebooks, Gradient
from apercu.likelihoods.base import per_image
from apercu.types import Code, Grid

__all__ = ["VQ"]


class VQ(Codebooks):
    """The nearest of `codes` vectors for every token: one symbol.

    `update`: "ema" averages the features with `decay`, "gradient" learns the codebook by its own cost;
    `revive`: a code that nothing chose for so many steps is moved onto a feature of the batch;
    `distance`: "cosine" compares directions alone; `gradient`: how it passes from the code to the features.
    """

    def __init__(
        self,
        features: int,
        dim: int,
        codes: int = 512,
        update: Literal["ema", "gradient"] = "ema",
        decay: float = 0.99,
        revive: int = 20,
        distance: Literal["euclidean", "cosine"] = "euclidean",
        gradient: Gradient = "straight-through",
    ) -> None:
        super().__init__(
            features,
            dim,
            codes,
            learnt=update == "gradient",
            decay=decay,
            revive=revive,
            unit=distance == "cosine",
            gradient=gradient,
        )

    def forward(self, features: Tensor, grid: Grid, x: Tensor, noise: bool) -> Code:
        """(B, N, F) → Code with z (B, N, D) on the codebook, symbols (B, N, 1) and costs in squared distance (B,)."""
        f = self._features(features)
        symbols = self.to_symbols(f)
        chosen = self.from_symbols(symbols)
        costs = {"commitment": per_image((f - chosen.detach()).square())}
        if self.learnt:
            costs["codebook"] = per_image((f.detach() - chosen).square())
        z = self._through(chosen, f)
        if self.training:
            self._learn([f], symbols)
        return Code(z, grid, mean=z, costs=costs, symbols=symbols)
