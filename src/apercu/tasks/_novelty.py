"""How unlike the known images an image is: by its price, and by how far its code lies from every known code.

Both are compared with those of known images that were not learnt from, as conformal p-values,

    p(v) = (1 + #{known values ≥ v}) / (1 + n)

and joined by Fisher's statistic −ln p_price − ln p_distance, whose own p-value is what counts. The price notices images
that the decoder cannot draw, the distance images of another class that it can.

Vovk, Gammerman and Shafer, "Algorithmic learning in a random world" (2005); Fisher (1925).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apercu.api import Model
from apercu.data.images import ImageSet
from apercu.data.recalled import priced
from apercu.errors import ApercuError
from apercu.heads import pooled

Floats = NDArray[np.float64]

CODES, HELD_OUT = 2000, 1000
ENOUGH = 100


def glance(model: Model, images: ImageSet) -> tuple[NDArray[np.float32], Floats]:
    """Code (B, K) and price per number in the image (B,), each image being looked at once.

    Raises:
        ApercuError: images so small that their codes differ in length.
    """
    codes, prices, order = [], [], []
    for batch, output, price in model.glances(images):
        codes.append(pooled(output.code).float().cpu().numpy())
        prices.append(price.cpu().numpy() / batch.x[0].numel())
        order.append(batch.index.cpu().numpy())
    if len({code.shape[1] for code in codes}) > 1:
        raise ApercuError("the images differ in size, so their codes do; pass the images of one size at a time")
    place = np.concatenate(order).argsort()
    return np.concatenate(codes)[place], np.concatenate(prices).astype(np.float64)[place]


def nearest(codes: NDArray[Any], known: NDArray[Any], themselves: bool = False) -> Floats:
    """Distance to the nearest of the known codes, (B, K) and (n, K) → (B,); to another one where these are the same."""
    from sklearn.neighbors import NearestNeighbors

    distances = NearestNeighbors(n_neighbors=2 if themselves else 1).fit(known).kneighbors(codes)[0]
    farthest: Floats = distances[:, -1].astype(np.float64)
    return farthest


def p_values(values: Floats, known: Floats) -> Floats:
    """The share of known values that are at least as large, the new one counted among them: (B,) in (0, 1]."""
    below = np.searchsorted(np.sort(known), values, side="left")
    p: Floats = (1 + len(known) - below) / (1 + len(known))
    return p


def separation(known: Floats, novel: Floats) -> float:
    """AUROC of p-values of known images, (n,), against those of novel ones, (m,)."""
    from sklearn.metrics import roc_auc_score

    truth = np.repeat([1, 0], [len(known), len(novel)])
    return float(roc_auc_score(truth, np.concatenate([known, novel])))


@dataclass(frozen=True)
class Known:
    """Codes (n, K) to be near to, and prices and distances (m,) of known images to compare with."""

    codes: NDArray[np.float32]
    prices: Floats
    distances: Floats

    @classmethod
    def of(cls, model: Model, learnt: ImageSet, held_out: ImageSet, seed: int) -> tuple[Known | None, str]:
        """From images that were learnt from and others that were held out; and which are compared with, in words.

        Where too few are held out, or without their prices, those that were learnt from must do; None where these are
        too few too, or without theirs.
        """
        if not priced(learnt.pixels):
            return None, ""
        rng = np.random.default_rng(seed)
        if len(held_out) >= ENOUGH and priced(held_out.pixels) and len(learnt):
            codes, _ = glance(model, _some(learnt, CODES, rng))
            others, prices = glance(model, _some(held_out, HELD_OUT, rng))
            return cls(codes, prices, nearest(others, codes)), "held-out images"
        if len(learnt) < ENOUGH:
            return None, ""
        codes, prices = glance(model, _some(learnt, HELD_OUT, rng))
        return cls(codes, prices, nearest(codes, codes, themselves=True)), "images that were learnt from"

    def p_values(self, model: Model, images: ImageSet) -> Floats:
        """Of each image being known, (B,): small is novel."""
        codes, prices = glance(model, images)
        joined = self._joined(prices, nearest(codes, self.codes))
        return p_values(joined, self._joined(self.prices, self.distances))

    def notes(self, novel: float) -> list[str]:
        """What to say where there are too few for a share `novel` of them to be one image."""
        needed, count = math.ceil(1 / novel - 1e-9) - 1, len(self.prices)
        note = (
            f"calling {novel:.4g} of the known images novel needs {needed} and there are {count}, so none is called so"
        )
        return [note] if count < needed else []

    def _joined(self, prices: Floats, distances: Floats) -> Floats:
        joined: Floats = -np.log(p_values(prices, self.prices)) - np.log(p_values(distances, self.distances))
        return joined

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All of it."""
        return {"codes": self.codes, "prices": self.prices, "distances": self.distances}


def _some(images: ImageSet, count: int, rng: np.random.Generator) -> ImageSet:
    return images.subset(np.sort(rng.permutation(len(images))[:count]))
