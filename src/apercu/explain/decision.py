"""The decision of a classifier as one function that can be differentiated, from pixels and from a code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from apercu.bottlenecks.base import Quantizer, straight_through
from apercu.errors import ApercuError
from apercu.heads import pooled
from apercu.model import Autoencoder
from apercu.types import Code, Grid

Head = Callable[[Code], Tensor]
"""A code → the logits of its classes, (B, K)."""

TOGETHER = 1_000_000
"""Numbers in the images that are differentiated together, so that they do not fill memory."""


@dataclass(frozen=True)
class Decision:
    """Which of `classes` an image is, by `head` on the code of `answering`; `drawing` decodes what is imagined.

    Both networks are one, unless the classifier was fine-tuned. Logits are divided by `temperature`, so that their
    softmax is what the classifier says.
    """

    drawing: Autoencoder
    answering: Autoencoder
    head: Head
    classes: tuple[str, ...]
    temperature: float = 1.0

    def logits(self, x: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] → (B, K)."""
        return self.head(self.answering.encode(x)) / self.temperature

    def odds(self, x: Tensor, chosen: Tensor) -> Tensor:
        """ln p(k | x) − ln(1 − p(k | x)) of the classes `chosen`, (B,) → (B,) nats."""
        return log_odds(self.logits(x), chosen)

    def draw(self, z: Tensor, grid: Grid, size: tuple[int, int]) -> Tensor:
        """The image of a code, (B, N, D) → (B, C, H, W) in [0, 1]."""
        return self.drawing.decode(z, grid, size).mean

    def settled(self, z: Tensor) -> Tensor:
        """The nearest code that there is, where codes are quantised; the gradient passes to z."""
        bottleneck = self.drawing.bottleneck
        if not isinstance(bottleneck, Quantizer):
            return z
        with torch.no_grad():
            nearest = bottleneck.quantise(z)
        return straight_through(nearest, z)


def log_odds(logits: Tensor, chosen: Tensor) -> Tensor:
    """logit_k − ln Σ_{j ≠ k} exp(logit_j), (B, K) and (B,) → (B,) nats."""
    own = torch.nn.functional.one_hot(chosen, logits.shape[1]).bool()
    others = logits.masked_fill(own, -torch.inf).logsumexp(1)
    return logits.gather(1, chosen[:, None]).squeeze(1) - others


def probe_head(probe: Any, device: torch.device | str) -> Head:  # noqa: ANN401
    """The same logits as a probe of scikit-learn, for all classes that it knows.

    Raises:
        ApercuError: a probe without a gradient, such as nearest neighbours.
    """
    scaler, last = (None, probe) if not hasattr(probe, "steps") else (probe.steps[0][1], probe.steps[-1][1])

    def tensor(values: Any) -> Tensor:  # noqa: ANN401
        return torch.as_tensor(values, dtype=torch.float32, device=device)

    if hasattr(last, "theta_"):
        means, precision = tensor(last.theta_), tensor(1 / last.var_)
        constant = tensor(last.class_prior_).log() + 0.5 * precision.log().sum(1)

        def near(code: Code) -> Tensor:
            return constant - 0.5 * ((pooled(code)[:, None] - means).square() * precision).sum(2)

        return near
    if hasattr(last, "coefs_") and last.activation == "relu":
        layers = list(zip(map(tensor, last.coefs_), map(tensor, last.intercepts_), strict=True))
    elif hasattr(last, "coef_"):
        layers = [(tensor(last.coef_.T), tensor(last.intercept_))]
    else:
        raise ApercuError(
            f"explaining takes a classifier that has a gradient, and {type(last).__name__} has none; fit another: "
            "apercu classify MODEL IMAGES --learn LABELLED -s method=linear"
        )
    mean, spread = tensor(0 if scaler is None else scaler.mean_), tensor(1 if scaler is None else scaler.scale_)

    def layered(code: Code) -> Tensor:
        values = (pooled(code) - mean) / spread
        for number, (weight, bias) in enumerate(layers):
            values = (values if number == 0 else values.relu()) @ weight + bias
        return values if values.shape[1] > 1 else torch.cat([torch.zeros_like(values), values], 1)

    return layered
