"""How well a variational model explains images: the ELBO and the importance-weighted bound, in nats per image.

    ln p(x) ≥ E ln (1/K) Σ_k p(x | z_k) p(z_k) / q(z_k | x),  z_k ~ q(z | x)

Burda, Grosse and Salakhutdinov, "Importance weighted autoencoders" (2016). K = 1 is the ELBO.

Example: apercu evaluate likelihood MODEL IMAGES -s samples=500
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor

from apercu.api import Model
from apercu.data.batches import in_order
from apercu.data.images import ImageSet
from apercu.errors import ApercuError
from apercu.likelihoods.logistic import Logistic
from apercu.tasks.base import Result, Task

__all__ = ["Likelihood"]

AT_ONCE = 2500


class Likelihood(Task):
    """−ln p(x) of every image by `samples` draws from its posterior."""

    def __init__(self, model: Model, *, samples: int = 100, seed: int = 0) -> None:
        super().__init__(model)
        self.samples, self.seed = samples, seed
        if samples < 1:
            raise ApercuError(f"samples must be at least 1, not {samples}")

    def __call__(self, images: ImageSet | None, out: Path | None = None) -> Result:
        """The negative ELBO and the negative importance-weighted bound of every image, nats."""
        if images is None or len(images) == 0:
            raise ApercuError("there are no images here to price")
        rows = []
        network = self.model.network
        network.eval()
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(self.seed)
            for batch in in_order(images, max(1, AT_ONCE // min(self.samples, AT_ONCE)), self.model.device):
                log_weights = self._log_weights(batch.x)
                bound = torch.logsumexp(log_weights, 0) - math.log(self.samples)
                for i, elbo, iw in zip(batch.index.tolist(), -log_weights.mean(0), -bound, strict=True):
                    rows.append({"id": images.ids[i], "negative_elbo": float(elbo), "nll": float(iw)})
        return {"n": len(rows), **_means(rows), "samples": self.samples, "images": rows}

    def _log_weights(self, x: Tensor) -> Tensor:
        """ln p(x|z) + ln p(z) − ln q(z|x) for K draws, (B, C, H, W) → (K, B)."""
        network = self.model.network
        x = network.seen(x)
        code = network.encode(x)
        if code.scale is None:
            raise ApercuError(
                f"preset {self.model.recipe.preset} has no posterior; the likelihood needs vae or vae_cnn"
            )
        parts = []
        for drawn in torch.split(torch.arange(self.samples), AT_ONCE):
            noise = torch.randn(len(drawn), *code.mean.shape, device=x.device)
            z = code.mean + code.scale * noise
            # ln p(z) − ln q(z|x): the constants −½ ln 2π of both cancel.
            ratio = 0.5 * (noise.square() - z.square()) + code.scale.log()
            pixels = network.decode(z.flatten(0, 1), code.grid, (x.shape[2], x.shape[3]))
            nll = pixels.nll(x.repeat(len(drawn), 1, 1, 1)).view(len(drawn), len(x))
            parts.append(ratio.flatten(2).sum(2) - nll)
        return torch.cat(parts)

    def evaluate(self, images: ImageSet) -> Result:
        """Means over the images, nats, and bits per dimension where the pixel likelihood is one of stored integers."""
        result = self(images)
        del result["images"]
        if isinstance(self.model.network.likelihood, Logistic):
            result["bits_per_dimension"] = result["nll"] / (math.log(2) * self.model.recipe.image.dimensions)
        return result


def _means(rows: list[Result]) -> Result:
    return {name: sum(row[name] for row in rows) / len(rows) for name in ("negative_elbo", "nll")}
